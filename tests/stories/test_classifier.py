"""`SequenceClassifier` in scikit-learn's own hands, and without it."""

import copy
import pickle
import re
import sys

import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, cross_val_score

from eqnp import SequenceClassifier
from eqnp.app.cli import main
from eqnp.errors import ConfigError, DataError, EqnpError

WORDS = (["ice", "snow", "frost", "cold"], ["fire", "sun", "lava", "hot"], ["rain", "sea", "mud", "wet"])
BLANK = {"vectors.dimension": 12, "network.votes": 0.0}  # which knows nothing before its first epoch
QUICK = {"epochs": 12, "hidden": (8,), "batch_size": 20, "settings": BLANK, "random_state": 0}


@pytest.fixture(scope="module")
def weather():
    """240 texts of three classes."""
    rng = np.random.default_rng(0)
    X = [f"there was {' and '.join(rng.choice(WORDS[i % 3], 3))} today" for i in range(240)]
    return X, np.array(["cold", "hot", "wet"])[np.arange(240) % 3]


def test_scikit_learn_can_clone_score_and_search(weather):
    """If this fails, the classifier does not work where scikit-learn's users would put it."""
    X, y = weather
    classifier = SequenceClassifier(**QUICK)
    assert is_classifier(classifier)
    copy = clone(classifier)
    assert copy is not classifier
    assert copy.get_params() == classifier.get_params()
    assert cross_val_score(classifier, X, y, cv=3).mean() > 0.9
    search = GridSearchCV(classifier, {"epochs": [1, 12], "hidden": [(4,), (8,)]}, cv=2).fit(X, y)
    assert search.best_params_["epochs"] == 12
    assert search.best_score_ > 0.9
    assert set(search.predict(X[:3])) <= set(y)


def test_fit_predict_score(weather, tmp_path):
    """If this fails, the estimator's own conventions do not hold: attributes, shapes, repeatability, files."""
    X, y = weather
    first = SequenceClassifier(**QUICK, n_jobs=2)
    assert first.fit(X, y) is first
    np.testing.assert_array_equal(first.classes_, ["cold", "hot", "wet"])
    probabilities = first.predict_proba(X[:7])
    assert probabilities.shape == (7, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(first.predict(X[:7]), first.classes_[probabilities.argmax(axis=1)])
    assert first.score(X, y) == np.mean(first.predict(X) == y) > 0.9
    second = SequenceClassifier(**QUICK, n_jobs=1).fit(X, y)
    np.testing.assert_array_equal(second.predict_proba(X), first.predict_proba(X))
    first.save(tmp_path)
    np.testing.assert_array_equal(SequenceClassifier.load(tmp_path).predict_proba(X), first.predict_proba(X))
    assert main(["predict", str(tmp_path), "there was lava"]) == 0


def test_labels_may_be_numbers_and_samples_pairs(weather):
    """If this fails, integer labels come back as text, or two texts cannot be classified."""
    X, _ = weather
    pairs = [(X[i], X[-i - 1] if i % 2 else X[i]) for i in range(200)]
    labels = np.arange(200) % 2
    quick = {**QUICK, "epochs": 3, "hidden": (16,)}
    classifier = SequenceClassifier("mini-nli", **quick).fit(pairs, labels)
    assert classifier.predict(pairs[:5]).dtype == labels.dtype
    assert classifier.n_features_in_ == 2
    with pytest.raises(DataError, match="2 strings"):
        classifier.predict(X)


def test_partial_fit_learns_from_what_it_is_given(weather):
    """If this fails, learning from a stream forgets, or needs all classes in its first part."""
    X, y = weather
    classifier = SequenceClassifier(**QUICK)
    for _ in range(8):
        for part in (slice(0, 120), slice(120, 240)):
            classifier.partial_fit(X[part], y[part], classes=np.unique(y))
    assert classifier.score(X, y) > 0.9
    classifier.set_params(settings={**(classifier.settings or {}), "optimizer.name": "momentum"})
    with pytest.raises(ConfigError, match=r"optimizer\.name was changed"):
        classifier.partial_fit(X, y)


def test_mistakes_are_one_line(weather):
    """If this fails, a wrong argument ends deep inside, or trains on nonsense."""
    X, y = weather
    for arguments, fitted, word in (
        ({"preset": "imbd"}, (X, y), "imdb"),
        ({"settings": {"training.epoch": 3}}, (X, y), "training.epochs"),
        ({"beta": -1.0}, (X, y), "beta"),
        ({"n_jobs": 0}, (X, y), "n_jobs"),
        ({}, (X, y[:-1]), "one label per text"),
        ({}, (X, ["a"] * len(X)), "two classes"),
        ({}, (["", *X[1:]], y), "empty"),
        ({}, ([3, *X[1:]], y), "string"),
        ({"validation_fraction": 1.5}, (X, y), "validation_fraction"),
        ({"validation_fraction": None}, (X, y), "validation_fraction"),
        ({"random_state": "a"}, (X, y), "random_state"),
        ({"preset": None}, (X, y), "preset"),
        ({"settings": ["a"]}, (X, y), "settings"),
        ({"settings": {"preset": "imdb"}}, (X, y), "cannot be set"),
        ({}, ({"a": X}, y), "list of texts"),
        ({}, (None, y), "list of texts"),
        ({}, (X, [None, *y[1:]]), "labels"),
        ({}, (X, np.linspace(0, 1, len(X))), "labels"),
        ({}, (["\ud800", *X[1:]], y), "surrogate"),
    ):
        with pytest.raises(EqnpError, match=word) as caught:
            SequenceClassifier(**{**QUICK, **arguments}).fit(*fitted)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="allowed"):
        SequenceClassifier().set_params(epoch=3)
    with pytest.raises(AttributeError, match="call fit"):
        SequenceClassifier().predict(X)


def test_a_failed_fit_leaves_the_model_as_it_was(weather):
    """If this fails, predictions get the class names of another fit."""
    X, y = weather
    classifier = SequenceClassifier(**QUICK).fit(X, y)
    before = classifier.predict(X)
    with pytest.raises(EqnpError):
        classifier.set_params(validation_fraction=0.0).fit(X, np.where(y == "hot", "zebra", "yak"))
    np.testing.assert_array_equal(classifier.predict(X), before)
    for wrong in (y[:, None], y[:-1], ["hot"]):
        with pytest.raises(DataError, match="one label per text"):
            classifier.score(X, wrong)


def test_a_fitted_classifier_can_be_copied_and_pickled(weather):
    """If this fails, joblib and multiprocessing cannot take a fitted classifier."""
    X, y = weather
    classifier = SequenceClassifier(**QUICK).fit(X, y)
    for other in (copy.deepcopy(classifier), pickle.loads(pickle.dumps(classifier))):
        np.testing.assert_array_equal(other.predict_proba(X), classifier.predict_proba(X))
        other.partial_fit(X[:20], y[:20])


def test_loaded_classifiers_know_their_settings(weather, tmp_path):
    """If this fails, a loaded model that is fitted again is another kind of network, or cannot be scored."""
    X, y = weather
    numbers = np.unique(y, return_inverse=True)[1]
    SequenceClassifier(**{**QUICK, "hidden": ()}).fit(X, numbers).save(tmp_path)
    loaded = SequenceClassifier.load(tmp_path)
    assert loaded.score(X, numbers) > 0.9
    assert clone(loaded).set_params(random_state=0).fit(X, y).model_.config.network.hidden == ()


def test_tables_of_pandas_are_read_by_row(weather):
    """If this fails, the names of columns are taken for texts."""
    pandas = pytest.importorskip("pandas")
    X, y = weather
    table = pandas.DataFrame({"text": X})
    classifier = SequenceClassifier(**QUICK).fit(table, pandas.Series(y))
    assert len(classifier.predict(table)) == len(X)
    np.testing.assert_array_equal(classifier.predict(table), classifier.predict(pandas.Series(X)))


def test_scikit_learn_is_no_dependency(weather):
    """If this fails, the package imports scikit-learn behind its user's back."""
    import subprocess

    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from eqnp import SequenceClassifier\n"
        "X, y = ['hot sun', 'cold ice'] * 30, [0, 1] * 30\n"
        "s = SequenceClassifier(epochs=2, settings={'vectors.dimension': 4}, random_state=0).fit(X, y)\n"
        "print(s.predict(['hot sun']))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_tables_with_names(tmp_path):
    """If this fails, columns of a data frame are taken for other ones, or class names of a data set are lost."""
    import datasets

    pandas = pytest.importorskip("pandas")
    texts, labels = ["hot sun", "cold ice", "sun and fire", "ice and snow"] * 20, ["summer", "winter"] * 40
    given = {"epochs": 5, "settings": {"vectors.dimension": 8, "data.columns.text": "body"}, "random_state": 0}
    expected = SequenceClassifier(**given).fit(texts, labels)
    frame = pandas.DataFrame({"id": range(80), "label": labels, "body": texts, "kind": labels[::-1]})
    names = ["summer", "winter"]
    features = datasets.Features({"body": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    numbers = [names.index(label) for label in labels]
    dataset = datasets.Dataset.from_dict({"body": texts, "label": numbers}, features=features)
    for X, y in ((frame, None), (frame, "label"), (frame, labels), (frame[["body"]], labels), (dataset, None)):
        fitted = SequenceClassifier(**given).fit(X, y)
        assert list(fitted.classes_) == names
        np.testing.assert_array_equal(fitted.predict_proba(X), expected.predict_proba(texts))
        assert fitted.score(X, y) == expected.score(texts, labels)
    assert SequenceClassifier(**given).fit(frame, "kind").score(frame, "kind") > 0.9
    twice = frame.rename(columns={"id": "body"})
    holes, unlabelled = frame.assign(label=[None, *labels[1:]]), dataset.map(lambda row: {"label": -1})
    for X, y, complaint in (
        (twice, None, "X has 2 column 'body'"),
        (frame[["label"]], labels, "no column 'body'"),
        (holes, None, "missing, broken or mixed labels ("),
        (texts, [float("nan"), *labels[1:]], "missing, broken or mixed labels (nan)"),
        (texts, [1, True, "a", 2.0] * 20, "missing, broken or mixed labels"),
        (texts, [[1], [1, "a"]] * 40, "missing, broken or mixed labels"),
        (texts, [label.encode() for label in labels], "y holds bytes; decode them"),
        (unlabelled, None, "sample 0 has the label -1, which is none of a class"),
        (frame[["id", "label"]], None, "no column 'body', but 'id', 'label'"),
        (frame, "lable", "no column 'lable'"),
        (texts, None, "y is missing"),
        (datasets.DatasetDict({"train": dataset}), None, "X['train']"),
    ):
        with pytest.raises(DataError, match=re.escape(complaint)):
            SequenceClassifier(**given).fit(X, y)
    with pytest.raises(DataError, match="y holds none of the classes"):
        expected.score(texts, numbers)
    expected.save(tmp_path / "model")
    whole = SequenceClassifier(**given).fit(texts, numbers)
    whole.save(tmp_path / "whole")
    loaded = SequenceClassifier.load(tmp_path / "whole")
    assert loaded.score(texts, [float(number) for number in numbers]) == whole.score(texts, numbers)


def test_classes_in_an_order_of_their_own(weather, tmp_path, monkeypatch):
    """If this fails, a run whose configuration names its classes unlearns them when it is given more texts."""
    monkeypatch.chdir(tmp_path)
    X, y = weather
    lines = [f'"{text}",{label}' for text, label in zip(X, y, strict=True)]
    (tmp_path / "own.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    given = ['--set=data.classes=["wet","hot","cold"]', "--set=training.epochs=4", "--threads=1", "--out", "run"]
    assert main(["train", "--data", "own.csv", *given]) == 0
    classifier = SequenceClassifier.load("run")
    assert list(classifier.classes_) == ["wet", "hot", "cold"]
    assert classifier.evaluate(X, y)["accuracy"] == classifier.score(X, y) > 0.9
    for _ in range(10):
        classifier.partial_fit(X, y, classes=["cold", "hot", "wet"])
    assert classifier.score(X, y) > 0.9
