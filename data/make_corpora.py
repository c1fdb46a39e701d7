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


def words_of(*texts: str) -> list[str]:
    return [word for text in texts for word in re.findall(r"[\w'-]+", text)]


def third_person(phrase: str) -> str:
    """``fall flat`` -> ``falls flat``."""
    verb, _, rest = phrase.partition(" ")
    ending = "es" if re.search(r"(s|sh|ch|zz)$", verb) else "ies" if re.search(r"[^aeiou]y$", verb) else "s"
    verb = verb[:-1] if ending == "ies" else verb
    return verb + ending + (" " + rest if rest else "")


def past(verb: str) -> str:
    """``love`` -> ``loved``."""
    return verb + ("d" if verb.endswith("e") else "ted" if verb == "regret" else "ed")


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
            if name == "L":
                return past(word)
            return third_person(word) if name == "V" and not self.plural else word
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
    known: set[str] = set()  # the words of train, which is filled first; the other splits use no others
    for name in SPLITS:
        twins: list[list[tuple[Row, tuple]]] = []
        while len(twins) < SENTIMENT_ROWS[name] // 2:
            pattern = rng.choice(lex.SENTIMENT[SENTIMENT_MIX[len(twins) % len(SENTIMENT_MIX)]])
            reviews = [draw_review(pattern, label, name, seen, rng) for label in (+1, -1)]
            if None in reviews or (known and not set(words_of(*(review.text for review in reviews))) <= known):
                continue
            frame = rng.random()
            lead = rng.choice(lex.FILLERS["lead"]) if frame < 0.3 else ""
            tail = rng.choice(lex.FILLERS["tail"]) if 0.2 < frame < 0.5 else ""
            seen.update(review.text for review in reviews)
            twins.append([(review.row(lead, tail), review.instance) for review in reviews])
        pairs = [pair for twin in twins for pair in twin]
        rng.shuffle(pairs)
        rows[name], instances[name] = [p[0] for p in pairs], [p[1] for p in pairs]
        known = known or set(words_of(*(row["text"] for row in rows[name])))
    return rows, instances


# ---------------------------------------------------------------------------------------------------- mini-nli
NLI_ROWS = {"train": 6000, "validation": 750, "test": 1200}
BASE_SUBJECTS = ["dog", "cat", "horse", "bear", "monkey", "man", "woman", "boy", "girl"]
PEOPLE = BASE_SUBJECTS[5:]
COLOURED = ["car", "truck", "bicycle", "guitar", "piano", "coat", "shirt", "hat", "kite", "ball", "drum"]


class Tree:
    """A hierarchy of details: ancestors are entailed, what is neither above nor below is excluded."""

    def __init__(self, nested: dict):
        self.parent: dict[str, str | None] = {}
        self.forms: dict[str, list[str]] = {}
        self._add(nested, None)

    def _add(self, nested: dict, parent: str | None) -> None:
        for names, below in nested.items():
            name = names.split("|")[0]
            self.parent[name], self.forms[name] = parent, names.split("|")
            self._add(below, name)

    def above(self, name: str) -> list[str]:
        """The ancestors, nearest first, the root last."""
        parent = self.parent[name]
        return [] if parent is None else [parent, *self.above(parent)]

    def below(self, name: str) -> list[str]:
        return [other for other in self.parent if name in self.above(other)]

    def excluded(self, name: str) -> list[str]:
        kin = {name, *self.above(name), *self.below(name)}
        return [other for other in self.parent if other not in kin]

    def testable(self) -> list[str]:
        return [name for name, parent in self.parent.items() if parent is not None]


TREES = {slot: Tree(nested) for slot, nested in lex.TREES.items()}
FORMS = {form: forms for pair in lex.STATES for forms in (s.split("|") for s in pair) for form in forms[:1]}
OPPOSITE = {a.split("|")[0]: b.split("|")[0] for pair in lex.STATES for a, b in (pair, pair[::-1])}
OPPOSITE |= {a[0]: b[0] for pair in lex.OPPOSITE_VERBS for a, b in (pair, pair[::-1])}
PARTICIPLES = dict([*lex.VERBS, *lex.ROLE_VERBS, *(verb for pair in lex.OPPOSITE_VERBS for verb in pair)])


def relate(slot: str, value: str, relation: str, rng: random.Random) -> tuple[str, bool]:
    """A premise's detail that stands in the relation to the hypothesis's value, and whether it is denied.

    ``""`` stands for a detail left unsaid.
    """
    if slot in TREES:
        tree = TREES[slot]
        above = tree.above(value)
        if relation == "entail":
            return rng.choice([value, value, *tree.below(value)]), False
        if relation == "exclude":
            if slot != "number" and rng.random() < 0.3:
                return rng.choice([value, *above[:-1]]), True
            return rng.choice(tree.excluded(value)), False
        leaves = [v for v in tree.excluded(value) if not tree.below(v)]
        return (rng.choice(leaves), True) if slot != "number" and rng.random() < 0.3 else (rng.choice(above), False)
    if relation == "entail":
        return value, False
    if relation == "exclude":
        swap = "swapped" if slot == "roles" else OPPOSITE[value]
        return (value, True) if rng.random() < 0.4 else (swap, False)
    others = [v[0] for v in lex.ROLE_VERBS] if slot == "roles" else list(FORMS if slot == "state" else OPPOSITE)
    others = [v for v in others if v not in (value, OPPOSITE.get(value)) and (slot != "verb" or v in PARTICIPLES)]
    if rng.random() < 0.3:
        return rng.choice(others), True
    return ("" if slot == "state" else rng.choice(lex.OPEN_VERBS)), False


def plural(noun: str) -> str:
    if noun in lex.PLURALS:
        return lex.PLURALS[noun]
    return noun[:-1] + "ies" if re.search("[^aeiou]y$", noun) else noun + "s"


class Scene:
    """What a hypothesis and its three premises share, and the wording of both."""

    def __init__(self, slot: str, rng: random.Random):
        self.slot, self.rng = slot, rng
        self.frame = rng.choice(lex.HYPOTHESES[slot])
        self.negated = rng.random() < 0.4
        self.transitive = slot in ("object", "colour", "verb") or (slot in ("time", "place") and rng.random() < 0.3)
        self.subject = rng.choice(PEOPLE if self.transitive else BASE_SUBJECTS)
        self.act = rng.choice([v for v in TREES["action"].testable() if not v.startswith(("moving", "resting"))])
        self.verb = rng.choice(lex.VERBS)[0]
        self.object = rng.choice(COLOURED)
        if slot == "roles":
            self.subject, self.object = rng.sample(lex.ROLE_NOUNS, 2)
            self.value = rng.choice(lex.ROLE_VERBS)[0]
        elif slot == "verb":
            self.object = rng.choice(lex.SMALL_OBJECTS)
            self.value = rng.choice([verb[0] for pair in lex.OPPOSITE_VERBS for verb in pair])
        else:
            self.value = rng.choice(TREES[slot].testable() if slot in TREES else list(FORMS))
        if slot == "subject":
            self.subject = self.value
        words = (self.value, self.subject, self.object) if slot == "roles" else (self.value,)
        self.instance = (slot, self.frame, self.negated, *words)

    def named(self, tree: str, name: str) -> str:
        return self.rng.choice(TREES[tree].forms[name])

    def hypothesis(self) -> str:
        slot, rng, many = self.slot, self.rng, self.slot == "number"
        subject, act, value = self.subject, self.act, self.value
        if slot != "roles":
            if slot != "subject" and rng.random() < 0.3:
                subject = rng.choice(TREES["subject"].above(subject)[:-1])
            subject = self.named("subject", subject)
        if self.transitive:
            act = f"{self.verb} the {self.object}"
        if slot in TREES and slot not in ("number", "subject"):
            value = self.named(slot, value)
        elif slot in ("subject", "number"):
            value = TREES[slot].forms[value][0]
        text = self.frame.format(
            s=plural(subject) if many else subject, o=self.object, act=act, value=value, verb=self.verb,
            ved=PARTICIPLES.get(value, PARTICIPLES[self.verb]), **{"not": "not " if self.negated else ""},
        )  # fmt: skip
        return fix_articles(text) + "."

    def premise(self, relation: str) -> str:
        slot, rng = self.slot, self.rng
        value, denied = relate(slot, self.value, relation, rng)
        words = {slot: value}
        extras = [s for s in ("place", "time", "state", "colour") if s != slot]
        if not self.transitive:
            extras.remove("colour")
        if slot in ("subject", "roles", "number"):
            extras.remove("state")
        unsaid = slot in ("place", "time", "state", "colour") and not value
        for extra in rng.sample(extras, min(len(extras), rng.choice([1, 1, 2]) + unsaid)):
            words[extra] = rng.choice(TREES[extra].testable() if extra in TREES else list(FORMS))
        for key in words:
            if key in TREES and key != "subject":
                words[key] = self.named(key, words[key])
            elif key == "state" and words[key]:
                words[key] = rng.choice(FORMS[words[key]])
        off = {
            key: "" if denied and key == slot else words.get(key, "") for key in ("place", "time", "state", "colour")
        }
        doer, patient = self.noun(value, denied), self.patient(value, denied, words, off["colour"])
        if off["state"]:
            doer = re.sub(r"^(a|the) ", rf"\1 {off['state']} ", doer)
        if slot == "state" and denied:
            doer += f" that is not {words['state']}"
        no = "not " if denied and slot in ("action", "verb", "roles") else ""
        be = "are" if slot == "number" else "is"
        verb = value if slot in ("verb", "roles") else self.verb
        if slot == "roles" and value == "swapped":
            verb, doer, patient = self.value, patient, doer
        if not (self.transitive or slot == "roles"):
            core = f"{doer} {be} {no}{words['action'] if slot == 'action' else self.act}"
        elif verb in PARTICIPLES and rng.random() < 0.4:
            core = f"{patient} is {no}being {PARTICIPLES[verb]} by {doer}"
        else:
            core = f"{doer} is {no}{verb} {patient}"
        where = [detail for detail in (off["place"], off["time"]) if detail]
        rng.shuffle(where)
        if where and (no or rng.random() < 0.35):
            core = f"{where.pop(0)}, {core}"
        core = " ".join([core, *where])
        if denied and slot in ("place", "time"):
            core += f", but not {words[slot]}"
        return fix_articles(core) + "."

    def noun(self, value: str, denied: bool) -> str:
        """The doer as the premise names it."""
        rng, slot = self.rng, self.slot
        if slot == "roles":
            return f"the {self.subject}"
        if slot == "subject":
            if denied:
                human = "person" in [value, *TREES["subject"].above(value)]
                return f"somebody who is not a {value}" if human else f"something that is not a {value}"
            name = self.named("subject", value)
            return name if name == "something" else rng.choice(["a ", "the "]) + name
        below = TREES["subject"].below(self.subject)
        name = self.named("subject", rng.choice(below) if below and rng.random() < 0.3 else self.subject)
        if slot == "number":
            return f"{self.named('number', value)} {plural(name)}"
        return rng.choice(["a ", "the "]) + name

    def patient(self, value: str, denied: bool, words: Row, colour: str) -> str:
        """What the deed is done to."""
        slot = self.slot
        if slot == "roles":
            return f"the {self.object}"
        if slot == "object":
            if denied:
                return f"something that is not a {words['object']}"
            noun = words["object"]
        else:
            noun = self.object
        if noun == "something":
            return noun
        text = " ".join(filter(None, [self.rng.choice(["a", "the"]), colour, noun]))
        return text + (f" that is not {words['colour']}" if slot == "colour" and denied else "")


def build_nli(seed: int = 20240502) -> tuple[dict[str, list[Row]], dict[str, list[tuple]]]:
    """The rows and, in step with them, the instances of each split.

    Each hypothesis comes with three premises, one for each label, so that alone it says nothing about the label.
    """
    rng = random.Random(seed)
    rows: dict[str, list[Row]] = {name: [] for name in SPLITS}
    instances: dict[str, list[tuple]] = {name: [] for name in SPLITS}
    seen: set[tuple[str, str]] = set()
    known: set[str] = set()
    slots = list(lex.HYPOTHESES)
    for name in SPLITS:
        pairs: list[tuple[Row, tuple]] = []
        while len(pairs) < NLI_ROWS[name]:
            scene = Scene(slots[len(pairs) // 3 % len(slots)], rng)
            if split_of(scene.instance) != name:
                continue
            hypothesis = scene.hypothesis()
            premises = {relation: scene.premise(relation) for relation in ("entail", "exclude", "open")}
            keys = {(premise, hypothesis) for premise in premises.values()}
            if len(keys) < 3 or keys & seen:
                continue
            if known and not set(words_of(hypothesis, *premises.values())) <= known:
                continue
            seen |= keys
            for relation, premise in premises.items():
                turned = {"entail": "contradiction", "exclude": "entailment"} if scene.negated else {}
                plain = {"entail": "entailment", "exclude": "contradiction", "open": "neutral"}
                row = {
                    "premise": premise,
                    "hypothesis": hypothesis,
                    "label": turned.get(relation, plain[relation]),
                }
                pairs.append((row, scene.instance))
        rng.shuffle(pairs)
        rows[name], instances[name] = [p[0] for p in pairs], [p[1] for p in pairs]
        known = known or set(words_of(*(text for row in rows[name] for text in row.values())))
    return rows, instances


# ------------------------------------------------------------------------------------------------------- files
def build_files() -> dict[str, str]:
    """Path below this directory -> content, for all six files."""
    return {
        f"{corpus}/{name}.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        for corpus, build in (("mini-sentiment", build_sentiment), ("mini-nli", build_nli))
        for name, rows in build()[0].items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare the files with the generator, write nothing")
    check = parser.parse_args().check
    stale = []
    for path, content in build_files().items():
        target = HERE / path
        if check:
            if not target.is_file() or target.read_bytes() != content.encode():
                stale.append(path)
        else:
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(content.encode())
    for path in stale:
        print(f"{path} differs from what make_corpora.py generates", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
