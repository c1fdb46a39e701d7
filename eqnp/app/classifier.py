"""`SequenceClassifier`: fit, predict and score on lists of strings, with scikit-learn's conventions but without it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from eqnp.app import player
from eqnp.app.explain import Explanation, explain
from eqnp.app.samples import (
    by_name,
    corpus_of,
    generator,
    label_sets_of,
    labels_of,
    not_fitted,
    plain,
    texts_of,
    threads_of,
    weights_of,
)
from eqnp.config import Config, load_config, segments_named, to_tree
from eqnp.errors import ConfigError, DataError, some
from eqnp.machine import Machine
from eqnp.optim import begun, make_optimizer
from eqnp.runs import label_sets
from eqnp.runs.console import epoch_line, progress_bar
from eqnp.runs.loop import Hooks, drawn_side, fit, gradients, one_hot, refit
from eqnp.runs.metrics import figures
from eqnp.runs.model import Model
from eqnp.runs.own_labels import epochs_in_all, learn_own_labels
from eqnp.runs.progress import Progress
from eqnp.runs.warmstart import as_before, grown, of_classes
from eqnp.text.holding import hold_out
from eqnp.text.prepare import prepare_corpora
from eqnp.text.store import Split, bucketed, noisy_batch
from eqnp.text.tokens import FEW


class SequenceClassifier:
    """A classifier of texts, or of pairs of texts, trained by Equilibrium Propagation.

    Parameters (all are kept as given, and checked by `fit`)

    preset : the preset whose settings hold where nothing else is said (`eqnp list` names them), or a TOML file. Without
        one: "text", or "pairs" where ``settings`` name two columns, or "text-vectors" with ``vectors``.
    vectors : word vectors: a file, an installed package, or "corpus". None: the preset's.
    epochs, batch_size, learning_rate, beta, hidden : ``training.epochs``, ``training.batch``,
        ``optimizer.learning_rate``, ``learning.beta`` and ``network.hidden`` (units of each dense layer, a tuple).
        None: the preset's.
    class_weight : ``training.class_weight``: "balanced", or a mapping {class: weight}. None: all texts count alike.
    settings : any other keys, as a mapping {"section.key": value}.
    validation_fraction : the share of the training data that is held out to choose the best epoch.
    random_state : an int for repeatable results, a `numpy.random.Generator`, or None.
    warm_start : whether `fit` goes on from the weights, vocabulary and classes of an earlier call, or of `load`, as in
        scikit-learn. Words and labels that X and y bring are added; pass texts of before again, or they are forgotten.
        Network, data and vectors must be set as before.
    n_jobs : threads; None: one. −1: one per core. The result does not depend on it.
    verbose : whether to print a line per epoch.

    After `fit`: ``classes_`` (sorted, as in scikit-learn), ``model_`` (`eqnp.runs.model.Model`), ``progress_``
    (`eqnp.runs.progress.Progress`: loss, accuracy, sweeps of every epoch), ``n_features_in_`` (texts per sample).

    A text may have several labels, or none: y is then a list of lists (or sets), or an array of 0 and 1 with a column
    for each class, as scikit-learn's `MultiLabelBinarizer` makes it. `predict` gives such an array, with columns in the
    order of ``classes_``, `predict_proba` the score of a yes to each class by itself, and `score` the share of texts
    whose labels are all right and no others given.

    Texts are strings, or tuples of as many strings as the preset has segments (two for the NLI presets). X may also be
    a data frame or a `datasets.Dataset`: its columns are those of ``data.columns``, and y may be left out (the column
    ``data.label``) or be the name of a column. Errors that can be mended are an `eqnp.errors.EqnpError`: its text says
    how.
    """

    _estimator_type = "classifier"

    def __init__(
        self,
        preset: str = "",
        *,
        vectors: str | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        beta: float | None = None,
        hidden: Sequence[int] | None = None,
        class_weight: str | Mapping | None = None,
        settings: Mapping[str, object] | None = None,
        validation_fraction: float = 0.1,
        random_state: int | np.random.Generator | None = None,
        warm_start: bool = False,
        n_jobs: int | None = None,
        verbose: bool = False,
    ):
        self.preset, self.vectors, self.epochs, self.batch_size = preset, vectors, epochs, batch_size
        self.learning_rate, self.beta, self.hidden, self.settings = learning_rate, beta, hidden, settings
        self.validation_fraction, self.random_state = validation_fraction, random_state
        self.class_weight, self.warm_start = class_weight, warm_start
        self.n_jobs, self.verbose = n_jobs, verbose

    @classmethod
    def _names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def get_params(self, deep: bool = True) -> dict:
        """The parameters by name."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params) -> SequenceClassifier:
        """Change parameters by name; raises ValueError for one that does not exist."""
        for name, value in params.items():
            if name not in self._names():
                raise ValueError(f"unknown parameter {name!r}; allowed: {', '.join(self._names())}")
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self):
        """What scikit-learn wants to know of an estimator; asked for by scikit-learn alone."""
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(multi_label=True),
            input_tags=InputTags(two_d_array=False, string=True),
        )

    def __repr__(self) -> str:
        defaults = {name: p.default for name, p in inspect.signature(type(self).__init__).parameters.items()}
        changed = (f"{n}={v!r}" for n, v in self.get_params().items() if repr(v) != repr(defaults[n]))
        return f"{type(self).__name__}({', '.join(changed)})"

    def fit(
        self, X: Sequence, y: Sequence | str | None = None, sample_weight: Sequence | str | None = None
    ) -> SequenceClassifier:
        """Train on texts X (n strings, n tuples of strings, or a table) with labels y (n,), or several to a text;
        returns self.

        ``sample_weight`` (n,) is what each text counts for, or the name of a column of X (by default ``data.weight``);
        weights are divided by their mean. Raises EqnpError.
        """
        config, rng = self._config(), generator(self.random_state)
        go_on = self.warm_start and hasattr(self, "model_")
        if go_on:
            config = as_before(config, self.model_)
            if self.model_.several or label_sets_of(X, y, config.data.label):
                raise DataError("warm_start is for texts of one label each; leave it out, or use partial_fit")
            classes = np.union1d(self.classes_, labels_of(X, y, config.data.label))
            corpus, classes = corpus_of(X, y, config.data, classes)
            if len(classes) == len(self.classes_):  # those of a loaded model may have an order of their own
                corpus, classes = of_classes(corpus, self.model_.classes), self.classes_
        else:
            corpus, classes = corpus_of(X, y, config.data)
        corpus.weights = weights_of(X, sample_weight, config.data.weight, len(corpus))
        share = self.validation_fraction
        if not (isinstance(share, float | np.floating) and 0 < share < 1):
            raise DataError(f"validation_fraction is {share!r:.60}; it must be a number between 0 and 1")
        train, validation = hold_out(corpus, float(share), rng)
        loaded = {"train": train, "validation": validation}
        prepared = grown(self.model_, config, loaded, rng) if go_on else prepare_corpora(config, loaded, rng)
        config, texts = prepared.config, prepared.weighed_texts()
        model, splits = Model.fresh(config, prepared, rng, Machine()), prepared.splits

        def after_epoch(progress: Progress) -> None:
            epoch, epochs = progress.epochs[-1], epochs_in_all(config, progress, len(splits["train"]))
            print(epoch_line(epoch, epochs, progress.best == epoch.epoch))

        hooks = Hooks(progress_bar, after_epoch=after_epoch) if self.verbose else Hooks()
        optimizer = make_optimizer(model.network, config.optimizer)
        again = config.training.refit or prepared.unlabelled is not None
        first = {n: v.copy() for n, v in model.network.host_parameters().items()} if again else {}
        with Machine().at_work(threads_of(self.n_jobs)) as machine:
            working = model.on(machine)
            network = working.network
            begin_again = partial(begun, network, first, config.optimizer)
            if config.training.refit:  # which ends with an epoch like the last
                hooks.after_last = lambda: working.calibrate(splits["validation"])
            self.progress_ = fit(network, optimizer, config, *texts, rng, hooks=hooks)
            kept = {"progress": self.progress_, "hooks": hooks}
            if prepared.unlabelled is not None:
                optimizer = learn_own_labels(network, optimizer, config, prepared, rng, **kept, begin_again=begin_again)
            if not config.training.refit:
                working.calibrate(splits["validation"])
            for key in ("temperature", "floor", "offset"):
                setattr(model, key, getattr(working, key))
            if config.training.refit:
                optimizer = begin_again()
                refit(network, optimizer, config, *texts, rng, **kept)
        self.model_, self.classes_, self._optimizer, self._rng = model, classes, optimizer, rng
        return self

    def partial_fit(
        self,
        X: Sequence,
        y: Sequence | str | None = None,
        classes: Sequence | None = None,
        sample_weight: Sequence | str | None = None,
    ) -> SequenceClassifier:
        """One pass over X, at a constant learning rate; returns self.

        The first call fixes vocabulary, word vectors and classes (``classes``, or those in y). ``sample_weight`` is as
        in `fit`, but is taken as it is. Raises EqnpError.
        """
        config = self._config()
        if config.training.class_weight:
            raise ConfigError("class_weight needs all texts at once; leave it out, and give partial_fit sample_weight")
        if not hasattr(self, "model_"):
            rng = generator(self.random_state)
            corpus, known = corpus_of(X, y, config.data, classes)
            prepared = prepare_corpora(config, {"train": corpus}, rng)
            config = prepared.config
            model, split = Model.fresh(config, prepared, rng, Machine()), prepared.splits["train"]
            self.model_, self.classes_, self._rng = model, known, rng
            self._optimizer, self.progress_ = make_optimizer(model.network, config.optimizer), Progress()
        else:
            split = self._further(config, X, y, classes)
        rng, weights = self._rng, weights_of(X, sample_weight, config.data.weight, len(split))
        with Machine().at_work(threads_of(self.n_jobs)) as machine:
            network = self.model_.on(machine).network
            for rows in bucketed(split, config.training.batch, rng):
                batch, labels, _ = noisy_batch(split, rows, config.training.word_dropout, rng)
                weight = None if weights is None else weights[rows]
                target, side = one_hot(labels, network), drawn_side(config, rng)
                result = gradients(network, batch, target, config, side, weight)
                self._optimizer.step(network, result.gradients)
        return self

    def _further(self, config: Config, X: Sequence, y: Sequence, classes: Sequence | None) -> Split:
        """More samples for a fitted model, whose learning may have been given other settings since."""
        model = self.model_
        config = as_before(config, model)
        if classes is not None and not np.array_equal(np.unique(classes), np.sort(self.classes_)):
            raise DataError(
                f"the classes are {some(self.classes_)} since the first call; use a new estimator for others"
            )
        if config.optimizer.name != model.config.optimizer.name:
            raise ConfigError("optimizer.name was changed after the first call; fit anew")
        model.config, self._optimizer.config = config, config.optimizer
        corpus, _ = corpus_of(X, y, config.data, self.classes_)
        if corpus.several != model.several:
            raise DataError("a text has one label here and several there; give all of them in the same way")
        order = np.argsort(self.classes_)  # those of a loaded model may have an order of their own
        labels = corpus.labels[:, np.argsort(order)] if model.several else order[corpus.labels]
        return model.encode_corpus(replace(corpus, labels=labels))

    def predict(self, X: Sequence) -> np.ndarray:
        """The class of every text, (n,), of the dtype of ``classes_``; of several labels 0 or 1 for each, (n, C).

        A label is given where its score is 0.5 or more. Raises DataError for an empty text.
        """
        scores = self.predict_proba(X)
        return (
            label_sets.given(scores).astype(np.int64) if self.model_.several else self.classes_[scores.argmax(axis=1)]
        )

    def predict_proba(self, X: Sequence) -> np.ndarray:
        """The scores of all classes in the order of ``classes_``, (n, C) float64; rows sum to 1, unless a text may have
        several labels.

        After `fit` those that sum to 1 are calibrated on the texts that were held out (`eqnp.runs.calibration`).
        """
        texts = self._texts(X)
        if len(next(iter(texts.values()))) <= FEW:  # as `eqnp predict` has it: to the same bits
            return self.model_.in_numpy().scores(texts)[0]
        with Machine().at_work(threads_of(self.n_jobs)) as machine:
            return self.model_.on(machine).scores(texts)[0]

    def explain(self, X: Sequence, towards: str | None = None) -> list[Explanation]:
        """Attention to every word of every text, and what each contributes to a class: `eqnp.app.explain.explain`.

        The class is that named ``towards``, or the predicted one. Raises DataError for a class that there is not.
        """
        texts = self._texts(X)
        with Machine().at_work(threads_of(self.n_jobs)) as machine:
            return explain(self.model_.on(machine), texts, towards)

    def watch(self, text: str | Sequence[str], path: str | Path, towards: str | None = None) -> Path:
        """Write a page on which the network settles on a text (or a pair), sweep by sweep; returns its path.

        See `eqnp.app.watch.record`. Raises DataError for a class that there is not, or no known word; OSError.
        """
        texts = {name: each for name, (each,) in self._texts([text]).items()}
        player.write(self.model_, texts, Path(path), towards)
        return Path(path)

    def score(self, X: Sequence, y: Sequence | str | None = None, sample_weight: Sequence | str | None = None) -> float:
        """The share of texts whose predicted class is theirs, or all of several labels, counted ``sample_weight`` times
        each, if given."""
        predicted = self.predict(X)
        weights = weights_of(X, sample_weight, "", len(predicted))
        right = predicted == self._labels(X, y, len(predicted))
        return float(np.average(right.all(axis=1) if self.model_.several else right, weights=weights))

    def evaluate(self, X: Sequence, y: Sequence | str | None = None) -> dict:
        """What ``eqnp evaluate --json`` says of texts and labels: precision, recall and F1 of every class, their means,
        balanced accuracy, log loss, which classes are confused (`eqnp.runs.metrics.figures`, or of several labels
        `eqnp.runs.label_sets.figures`).

        Raises DataError for a label that is no class.
        """
        probabilities = self.predict_proba(X)
        labels, names = self._labels(X, y, len(probabilities)), [str(name) for name in self.classes_]
        if self.model_.several:
            return label_sets.figures(probabilities, labels, names)
        if strange := labels[~np.isin(labels, self.classes_)].tolist():
            raise DataError(f"y holds {strange[0]!r}, and the classes are {some(names)}; leave such texts out")
        order = np.argsort(self.classes_)
        return figures(probabilities, order[np.searchsorted(self.classes_, labels, sorter=order)], names)

    def _texts(self, X: Sequence) -> dict[str, list[str]]:
        """Texts by segment, for a fitted model."""
        if not hasattr(self, "model_"):
            raise not_fitted(self)
        return texts_of(X, self.model_.config.data.columns, self.model_.config.data.label)

    def _labels(self, X: Sequence, y: Sequence | str | None, texts: int) -> np.ndarray:
        """Labels (n,), of the dtype of ``classes_``, or of several to a text 0 and 1 (n, C); raises DataError."""
        if self.model_.several:
            found = label_sets_of(X, y, self.model_.config.data.label, self.classes_)
            if found is None or len(found[0]) != texts:
                raise DataError(f"y does not fit {texts} texts; it must hold a list of labels per text")
            return found[0]
        labels = labels_of(X, y, self.model_.config.data.label)
        if labels.shape != (texts,):
            raise DataError(f"y has shape {labels.shape} for {texts} texts; it must hold one label per text")
        if self.classes_.dtype.kind == "U" and labels.dtype.kind != "U":  # of a loaded model, whose classes are text
            labels = (labels.astype(np.int64) if labels.dtype.kind == "f" else labels).astype(str)
        if labels.size and not np.isin(labels, self.classes_).any():
            raise DataError(f"y holds none of the classes {some(self.classes_)}, but {labels[0]!r}; give class names")
        return labels

    def save(self, folder: str | Path) -> None:
        """Write ``model.h5`` into a folder, for `load`, ``eqnp predict`` and ``eqnp evaluate``; raises OSError."""
        if not hasattr(self, "model_"):
            raise not_fitted(self)
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.model_.save(folder)

    @classmethod
    def load(cls, folder: str | Path) -> SequenceClassifier:
        """A fitted classifier from a folder that `save` or ``eqnp train`` wrote; raises CheckpointError.

        Class names are strings then, whatever the labels were.
        """
        model = Model.load(folder)
        sections = {n: s for n, s in to_tree(model.config).items() if isinstance(s, dict)}
        settings = {f"{name}.{key}": value for name, part in sections.items() for key, value in part.items()}
        self = cls(class_weight=settings.pop("training.class_weight") or None, settings=settings)
        self.model_, self.classes_, self._rng = model, np.array(model.classes), generator(None)
        self._optimizer, self.progress_ = make_optimizer(model.network, model.config.optimizer), Progress()
        return self

    def __getstate__(self) -> dict:
        """For pickling and copying: the optimiser as its arrays."""
        state = dict(self.__dict__)
        if optimizer := state.pop("_optimizer", None):
            state["_optimizer_state"] = optimizer.state()
        return state

    def __setstate__(self, state: dict) -> None:
        kept = state.pop("_optimizer_state", None)
        self.__dict__.update(state)
        if kept:
            self._optimizer = make_optimizer(self.model_.network, self.model_.config.optimizer)
            self._optimizer.restore(*kept)

    @property
    def n_features_in_(self) -> int:
        """Texts per sample."""
        if not hasattr(self, "model_"):
            raise AttributeError("n_features_in_ is there after fit")
        return len(self.model_.config.data.columns)

    def _config(self) -> Config:
        given = {
            "vectors.source": self.vectors,
            "training.epochs": self.epochs,
            "training.batch": self.batch_size,
            "optimizer.learning_rate": self.learning_rate,
            "learning.beta": self.beta,
            "network.hidden": self.hidden,
            "training.class_weight": by_name(self.class_weight),
        }
        settings = self.settings or {}
        if not isinstance(settings, Mapping) or not all(isinstance(key, str) for key in settings):
            raise ConfigError(f"settings is {settings!r:.60}; it must be a mapping of keys, {{'section.key': value}}")
        if not isinstance(self.preset, str | Path):
            raise ConfigError(f"preset is {self.preset!r:.60}; it must be the name of a preset, or of a TOML file")
        given = {key: plain(value) for key, value in (given | dict(settings)).items() if value is not None}
        words = "text" if given.get("vectors.source", "corpus") == "corpus" else "text-vectors"
        default = "pairs" if len(segments_named(given)) == 2 else words
        return load_config(str(self.preset or default), given=given)
