"""Votes: they are what their formula says, learn by themselves where they occur, and start at log-count ratios."""

import numpy as np
import pytest
from scipy.special import softmax

from eqnp import Network, SequenceClassifier
from eqnp.errors import ConfigError
from eqnp.learning import LearningConfig, estimate
from eqnp.parameters import EMBEDDING
from eqnp.sections import DataConfig
from eqnp.testing import EXACT, check_energy, check_gradients, check_synapse, problem
from eqnp.text.ngrams import NGrams
from eqnp.text.start import first_votes
from eqnp.text.store import Split
from eqnp.text.subwords import Subwords, as_read, learn_subwords, subwords_of
from eqnp.text.tokens import learn_tokenizer, ragged

FEATURES = "text features"


@pytest.fixture
def voting():
    """A small network with votes, and a batch."""
    return problem(kind="votes", output_activation="softmax")


def test_votes_are_their_formula(voting):
    """If this fails, the classes hear something else than the rows of the features of a text, over √N."""
    network, segment = voting.network, voting.batch[FEATURES]
    table, x = network.parameters["votes0.weight"], network.clamp(voting.batch)
    for b, length in enumerate(segment.lengths):
        total = sum((table[i] for i in segment.ids[b, :length]), np.zeros(3))
        np.testing.assert_allclose(x.static["output"][b], total / np.sqrt(max(length, 1)))


def test_votes_are_a_term_that_learns_the_gradient(voting):
    """If this fails, votes learn something else than the slope of the loss, or settling raises the energy."""
    check_synapse(next(iter(voting.network.features.values())), voting.network, voting.batch)
    for against in ("finite differences", "implicit", "bptt"):
        check_gradients(voting.network, voting.batch, voting.target, against=against)
    check_energy(voting.network, voting.batch, voting.target)


@pytest.mark.parametrize("beta", [0.9, 0.1])
def test_votes_alone_are_logistic_regression_for_any_nudge(voting, beta):
    """If this fails, a softmax of votes has another gradient than the one of textbooks, or only for a small β."""
    votes, embedding = voting.network.features[FEATURES], voting.network.parameters[EMBEDDING]
    segment, table = voting.batch[FEATURES], voting.network.parameters["votes0.weight"]
    given = {"parameters": {"votes0.weight": table}}
    network = Network([voting.network.output], [votes], embedding, {"text": 5}, **given)
    result = estimate(network, voting.batch, voting.target, LearningConfig(beta=beta), EXACT)
    inside = np.arange(segment.ids.shape[1]) < segment.lengths[:, None]
    shares = inside / np.sqrt(np.maximum(segment.lengths, 1))[:, None]
    output = softmax(np.einsum("bn,bnc->bc", shares, table[segment.ids]), axis=1)
    truth = np.zeros_like(table)
    np.add.at(truth, segment.ids, shares[:, :, None] * (output - voting.target)[:, None] / len(output))
    np.testing.assert_allclose(result.gradients["votes0.weight"].dense(table), truth, atol=1e-12)
    implicit = estimate(network, voting.batch, voting.target, LearningConfig(algorithm="implicit"), EXACT)
    np.testing.assert_allclose(implicit.gradients["votes0.weight"].dense(table), truth, atol=1e-12)


def test_only_features_that_occur_move(voting):
    """If this fails, a batch touches the whole table, or padding votes."""
    given = (voting.network, voting.batch, voting.target, LearningConfig(), EXACT)
    rows = estimate(*given).gradients["votes0.weight"].rows
    occur = {int(i) for ids, length in zip(*voting.batch[FEATURES], strict=True) for i in ids[:length]}
    assert set(rows.tolist()) == occur


def test_a_batch_without_features_says_so(voting):
    """If this fails, a batch that was read without them ends in a traceback."""
    del voting.batch[FEATURES]
    with pytest.raises(ConfigError, match="no segment 'text features'"):
        voting.network.clamp(voting.batch)


def test_subwords_are_runs_of_characters():
    """If this fails, features are cut otherwise than the documentation says, or a word is known that no text has."""
    assert subwords_of("good", 3) == {" g", "go", "oo", "od", "d ", " go", "goo", "ood", "od "}
    texts = ["Good goods", "a good <br /> one", "one"]
    tokenizer = learn_tokenizer(texts, min_count=1, max_words=100)
    learned = learn_subwords(tokenizer, texts, longest=3, min_texts=2, most=1000)
    every = [
        set().union(*(subwords_of(word, 3) for word in text.split())) for text in ("good goods", "a good one", "one")
    ]
    assert set(learned.names) == {part for text in every for part in text if sum(part in t for t in every) >= 2}
    again = Subwords.from_about(learned.about())
    for text, ids in zip(["goo", "oOd", "xyz", ""], learned.encode(tokenizer, ["goo", "oOd", "xyz", ""]), strict=False):
        assert {again.names[i] for i in ids} == {
            part for word in text.lower().split() for part in subwords_of(word, 3) if part in learned.names
        }


def split_of(*texts: list[int], labels=(0, 1, 1)) -> Split:
    """Encoded samples of one segment."""
    return Split({"text": ragged([np.array(ids, int) for ids in texts])}, np.array(labels))


def test_features_are_slots_once_and_then_subwords():
    """If this fails, a feature counts twice, or two features share a row, or pairs that only vote are slots."""
    split, subwords = split_of([2, 3, 2], [], [4]), {"text": ragged([np.array(i, int) for i in ([0, 1], [1], [])])}
    pairs = NGrams(np.array([[2, 3]], np.int32), 5)
    for slots, expected in ((True, [2, 3, 2, 5]), (False, [2, 3, 2])):
        read = as_read(split, DataConfig(ngram_slots=slots), pairs, subwords)
        assert [read.features[FEATURES][i].tolist() for i in range(3)] == [[2, 3, 5, 6, 7], [7], [4]]
        assert read.segments["text"][0].tolist() == expected
    assert not as_read(split, DataConfig(), pairs, None).features


def test_votes_start_at_log_count_ratios():
    """If this fails, the linear part of a network starts with other knowledge than a naive Bayes classifier has."""
    none = NGrams(np.zeros((0, 2), np.int32), 4)
    split = as_read(split_of([2, 3], [3], [2]), DataConfig(), none, {"text": ragged([np.array([], int)] * 3)})
    votes = first_votes(split, 4, 2, gain=0.5)[FEATURES]
    counts = np.array([[0, 0], [0, 0], [1, 1], [1, 1]])
    own, other = 1 + counts, 1 + counts[:, ::-1]
    expected = 0.5 * (np.log(own / own.sum(axis=0)) - np.log(other / other.sum(axis=0)))
    np.testing.assert_allclose(votes, np.where(np.arange(4)[:, None] < 2, 0, expected), rtol=1e-6)


def test_pairs_that_only_vote_are_told_apart(tmp_path):
    """If this fails, word pairs without slots of their own say nothing, or a model forgets them in its file."""
    texts, labels = ["good not", "not bad", "bad not", "not good"] * 12, ["yes", "yes", "no", "no"] * 12
    settings = {"data.ngrams": 2, "data.ngram_slots": False, "network.votes": 0.3, "data.start_token": False}
    settings |= {"data.subwords": 0, "training.epochs": 20, "training.batch": 8}
    classifier = SequenceClassifier(settings=settings, random_state=0).fit(texts, labels)
    model = classifier.model_
    assert len(model.ngrams)
    assert len(model.network.parameters[EMBEDDING]) == model.ngrams.first_id
    assert classifier.predict(texts[:4]).tolist() == labels[:4]
    classifier.save(tmp_path / "kept")
    assert SequenceClassifier.load(tmp_path / "kept").predict(texts[:4]).tolist() == labels[:4]


def test_a_misspelt_word_still_votes():
    """If this fails, words that training has never seen say nothing, and subwords are for nothing."""
    texts = ["wonderful film", "a wonderful story", "terrible film", "a terrible story"] * 8
    labels = ["good", "good", "bad", "bad"] * 8
    settings = {"training.epochs": 3, "training.batch": 8}
    scores = {}
    for votes in (0.0, 0.3):
        classifier = SequenceClassifier(settings=settings | {"network.votes": votes}, random_state=0).fit(texts, labels)
        assert ("votes0.weight" in classifier.model_.network.parameters) == bool(votes)
        assert EMBEDDING in classifier.model_.network.parameters
        scores[votes] = classifier.predict_proba(["wonderfull film", "terribel film"])[:, 1]
    assert scores[0.3][0] > 0.6
    assert scores[0.3][1] < 0.4
    assert abs(scores[0.0][0] - scores[0.0][1]) < 1e-6  # "film" alone was read
