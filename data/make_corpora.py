"""Write (or, with ``--check``, verify byte for byte) the embedded corpora mini-sentiment and mini-nli.

Both are synthetic: the words and patterns are in ``lexicon.py``, the rules that set the labels are here.
"""

import argparse
import hashlib
import json
import random
import re
import sys
from pathlib import Path

import lexicon as lex

HERE = Path(__file__).resolve().parent
SPLITS = ("train", "validation", "test")
Row = dict[str, str]


def split_of(instance: tuple) -> str:
    """The one split in which an instance may occur, from a hash, so that it never depends on the sampling."""
    bucket = hashlib.sha256(repr(instance).encode()).digest()[0]
    return "train" if bucket < 176 else "validation" if bucket < 208 else "test"


def fix_articles(text: str) -> str:
    """Put ``an`` before a vowel sound and ``a`` elsewhere."""
    vowel = re.compile(r"(?!one\b|uni[^mn]|use)[aeiou]|hour|honest")
    return re.sub(r"\ban? (?=(\w+))", lambda m: "an " if vowel.match(m[1]) else "a ", text)


def third_person(phrase: str) -> str:
    """``fall flat`` -> ``falls flat``."""
    verb, _, rest = phrase.partition(" ")
    ending = "es" if re.search(r"(s|sh|ch|zz)$", verb) else "ies" if re.search(r"[^aeiou]y$", verb) else "s"
    verb = verb[:-1] if ending == "ies" else verb
    return verb + ending + (" " + rest if rest else "")


# ---------------------------------------------------------------------------------------------- mini-sentiment
SENTIMENT_ROWS = {"train": 4000, "validation": 600, "test": 1000}
# Shares per ten rows. Plain ones are what a bag of words can learn; negated ones turn it against itself.
SENTIMENT_MIX = ["plain"] * 4 + ["negated"] * 2 + ["contrast"] * 4
POLAR = {
    slot: {sign: words.split("," if slot == "V" else None) for sign, words in by_sign.items()}
    for slot, by_sign in lex.POLAR.items()
}
CLAUSES = {
    "concession": ([lex.CONCESSIONS, lex.PLAIN_CLAUSES, lex.NEGATED_CLAUSES], [6, 3, 1]),
    "verdict": ([lex.VERDICTS, lex.PLAIN_CLAUSES, lex.NEGATED_CLAUSES], [8, 1, 1]),
}


class Review:
    """One pattern filled in for one label; collects the polar words that decide it."""

    def __init__(self, pattern: str, label: int, rng: random.Random):
        self.rng, self.label, self.plural = rng, label, False
        self.used: set[str] = set()
        self.work = rng.choice(lex.WORKS.split())
        # The label rests on the slots of its own sign; a purely negated pattern only has the opposite sign.
        self.deciding = "+" if re.search(r"\{\w+\+\}", pattern) else "-"
        self.words: list[str] = []
        self.text = fix_articles(self.fill(pattern, label, True))
        self.instance = (pattern, *sorted(self.words))

    def row(self, lead: str, tail: str) -> Row:
        return {"text": f"{lead}{self.text}.{tail}", "label": "positive" if self.label > 0 else "negative"}

    def pick(self, options: list[str]) -> str:
        """A random option not yet used in this review."""
        choice = self.rng.choice([option for option in options if option not in self.used])
        self.used.add(choice)
        return choice

    def fill(self, pattern: str, sign: int, outer: bool = False, decides: bool = True) -> str:
        def slot(match: re.Match) -> str:
            name, mark = match[1], match[2]
            flag = decides and (not outer or mark == self.deciding)
            return self.slot(name, sign if mark == "+" else -sign, flag)

        return re.sub(r"\{([\w/]+)([+-]?)\}", slot, pattern)

    def slot(self, name: str, sign: int, decides: bool) -> str:
        if name in CLAUSES:
            pools, weights = CLAUSES[name]
            return self.fill(self.rng.choice(*self.rng.choices(pools, weights)), sign, decides=decides)
        if name.removesuffix("base") in POLAR:
            word = self.pick(POLAR[name.removesuffix("base")][sign])
            if decides:
                self.words.append(word)
            if name == "V" and not self.plural:
                return third_person(word)
            return (word + "d" if word.endswith("e") else word + ("ted" if word[-3:] == "ret" else "ed")) if (
                name == "L"
            ) else word
        if name == "subj":
            self.plural = self.rng.random() < 0.3
            aspect = self.pick(lex.ASPECTS["plural" if self.plural else "singular"].split(","))
            if not self.plural and "it" not in self.used and self.rng.random() < 0.25:
                self.used.add("it")
                return self.rng.choice(["the " + self.work, "this " + self.work])
            return "the " + aspect
        if name == "it":
            self.plural = False
            return self.rng.choice(["it", "it", "this", "the " + self.work])
        if name == "work":
            return self.work
        if name == "aspect":
            return self.pick(lex.ASPECTS["singular"].split(","))
        if "/" in name:
            return name.split("/")[self.plural]
        return self.pick(lex.FILLERS[name]) if name != "adv" else self.rng.choice(lex.FILLERS["adv"])


def draw_review(pattern: str, label: int, split: str, seen: set[str], rng: random.Random) -> Review | None:
    """A new review of the split, or None where the pattern has (nearly) no more of them to give."""
    for _ in range(80):
        review = Review(pattern, label, rng)
        if review.text not in seen and split_of(review.instance) == split:
            return review
    return None


def build_sentiment(seed: int = 20240501) -> tuple[dict[str, list[Row]], dict[str, list[tuple]]]:
    """The rows and, in step with them, the instances of each split.

    Rows come in twins, one for each label, of one pattern and within one frame, so that neither patterns nor
    fillers nor lengths can give the label away.
    """
    rng = random.Random(seed)
    rows: dict[str, list[Row]] = {name: [] for name in SPLITS}
    instances: dict[str, list[tuple]] = {name: [] for name in SPLITS}
    seen: set[str] = set()
    for name in SPLITS:
        twins: list[list[tuple[Row, tuple]]] = []
        while len(twins) < SENTIMENT_ROWS[name] // 2:
            pattern = rng.choice(lex.SENTIMENT[SENTIMENT_MIX[len(twins) % len(SENTIMENT_MIX)]])
            reviews = [draw_review(pattern, label, name, seen, rng) for label in (+1, -1)]
            if None in reviews:
                continue
            frame = rng.random()
            lead = rng.choice(lex.FILLERS["lead"]) if frame < 0.3 else ""
            tail = rng.choice(lex.FILLERS["tail"]) if 0.2 < frame < 0.5 else ""
            seen.update(review.text for review in reviews)
            twins.append([(review.row(lead, tail), review.instance) for review in reviews])
        pairs = [pair for twin in twins for pair in twin]
        rng.shuffle(pairs)
        rows[name], instances[name] = [p[0] for p in pairs], [p[1] for p in pairs]
    return rows, instances
