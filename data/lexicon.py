"""Words and sentence patterns of the two embedded corpora, as plain data.

Sentiment patterns mark polar slots with a sign: ``+`` is the polarity of the label, ``-`` its opposite. One
pattern thus yields both labels, and nothing but the polar words and their arrangement tells them apart.
``{a/b}`` agrees with the last subject (singular/plural); ``a`` becomes ``an`` afterwards where it must.
"""

# ---------------------------------------------------------------------------------------------- mini-sentiment
POLAR = {
    # Adjectives that fit a work as well as any of its aspects.
    "A": {
        +1: "good great superb brilliant charming clever sharp fresh elegant inventive gripping convincing "
        "moving delightful witty memorable engaging stylish original absorbing wonderful lively",
        -1: "bad awful dreadful poor dull weak clumsy boring flat stale lifeless awkward messy shallow "
        "tedious predictable bland hollow sloppy muddled forgettable silly",
    },
    # Those of them that bear "a little" or "very".
    "G": {
        +1: "good charming clever sharp fresh elegant inventive convincing moving witty memorable engaging "
        "stylish original lively",
        -1: "bad dull weak clumsy boring flat stale awkward messy shallow tedious predictable bland sloppy silly",
    },
    # Nouns that sum up a whole work.
    "N": {
        +1: "masterpiece gem triumph treat delight joy winner marvel success pleasure classic treasure",
        -1: "disaster mess failure bore chore flop dud mistake letdown muddle ordeal disappointment",
    },
    # Verb phrases in the base form; the first word takes the -s.
    "V": {
        +1: "shine,sparkle,delight,impress,soar,come alive,hold together,hit the mark,pay off,work",
        -1: "drag,fail,disappoint,stumble,fizzle,fall flat,fall apart,miss the mark,grate,sag",
    },
    # What it did to the viewer.
    "R": {
        +1: "delighted thrilled moved hooked charmed impressed enchanted",
        -1: "bored annoyed disappointed irritated baffled exhausted embarrassed",
    },
    "L": {+1: "love enjoy admire adore like", -1: "hate dislike detest regret resent"},
}

WORKS = "film movie show series play comedy drama thriller sequel musical adaptation remake western fantasy"
ASPECTS = {
    "singular": "acting,script,score,ending,story,plot,dialogue,direction,camera work,editing,cast,humour,opening,"
    "finale,soundtrack,first half,second half,romance,final act,staging,narration,production",
    "plural": "jokes,songs,characters,performances,scenes,twists,lyrics,monologues,flashbacks,visuals",
}

FILLERS = {
    "strong": ["truly", "utterly", "thoroughly", "completely", "deeply"],
    "weak": ["a little", "slightly", "somewhat", "a bit"],
    "adv": ["", "", "", "quite ", "really ", "very ", "rather ", "so ", "surprisingly "],
    "people": ["my friends", "the critics", "my parents", "the neighbours", "some reviewers", "my colleagues"],
    "person": ["my sister", "my brother", "the host", "my flatmate", "a colleague", "the poster", "my uncle"],
    "part": ["scene", "moment", "chapter", "minute", "passage", "patch"],
    "parts": ["scenes", "moments", "passages", "patches", "lines", "stretches"],
    "lead": [
        *[
            "overall, ",
            "in short, ",
            "for me, ",
            "to my mind, ",
            "all in all, ",
            "honestly, ",
            "in the end, ",
        ],
        *["to be frank, ", "as i see it, ", "i saw it last night: ", "we watched it on a train: "],
        *["after two hours i can say that ", "having read the novel, i can say that "],
        *["my verdict after a second viewing: ", "we went on a rainy sunday: "],
        *["at the local cinema last week: ", "i took the children along: "],
    ],
    "tail": [
        *[
            " it runs for two hours.",
            " we saw it on friday.",
            " i sat in the back row.",
            " the hall was full.",
        ],
        *[" it is set in a small harbour town.", " my ticket cost ten euros.", " it was filmed in norway."],
        *[" the director also wrote the book.", " i watched it with my family.", " it opens next month."],
        *[" it takes place in winter.", " there is an interval after an hour.", " half the cast is french."],
    ],
}

# Clauses that can stand alone or inside a contrast. {it} is the work, {subj} an aspect or the work.
PLAIN_CLAUSES = [
    "{subj} {is/are} {adv}{G+}",
    "{subj} {is/are} {strong} {A+}",
    "{subj} {feels/feel} {adv}{G+}",
    "{subj} {V+}",
    "{it} is a {N+}",
    "it is a {A+} {work}",
    "i found {subj} {adv}{G+}",
    "i {L+} {subj}",
    "{subj} left me {R+}",
]
NEGATED_CLAUSES = [
    "{subj} {is/are} not {A-}",
    "{subj} {is/are} never {A-}",
    "{subj} never {V-}",
    "{subj} {does/do} not {Vbase-}",
    "{subj} {is/are} hardly {A-}",
    "{subj} {is/are} far from {A-}",
    "{subj} {is/are} anything but {A-}",
    "it is not a {A-} {work}",
    "it is hardly a {N-}",
    "i did not find {subj} {A-}",
    "i never {L-} {subj}",
    "{subj} did not leave me {R-}",
    "nothing about {subj} is {A-}",
]

# What a writer concedes, and what the same writer insists on: the second often says it twice or with force.
CONCESSIONS = [
    "{subj} {is/are} {weak} {G+}",
    "{subj} {is/are} {G+} in places",
    "{subj} {feels/feel} {weak} {G+}",
    "{subj} {has/have} a few {G+} {parts}",
    "i found {subj} {weak} {G+}",
    "{it} is {weak} {G+}",
    "{subj} left me {weak} {R+}",
]
VERDICTS = [
    "{subj} {is/are} {A+} and {A+}",
    "{subj} {is/are} {strong} {A+} and {V+}",
    "{it} is a {A+} and {A+} {work}",
    "{subj} {is/are} {A+}, {A+} and {A+}",
    "{it} is a {A+} {N+}",
    "{it} is a {strong} {A+} {work}",
    "{subj} {feels/feel} {strong} {A+}",
    "i found {subj} {strong} {A+}",
    "i found {subj} {strong} {A+} and {A+}",
    "{subj} left me {strong} {R+}",
    "i {L+} {subj}, and {it} is a {N+}",
    "{subj} {is/are} {A+} and {subj} {is/are} {A+}",
]

SENTIMENT = {
    # One clause whose polar words mean what they say; some hold a negator that changes nothing.
    "plain": [
        *PLAIN_CLAUSES,
        "what a {A+} {work}",
        "{A+} from start to finish",
        "i was {strong} {R+} by {subj}",
        "everything about {subj} is {A+}",
        "a {A+} {work} full of {A+} {parts}",
        "every {part} of it is {A+}",
        "{subj} {is/are} both {A+} and {A+}",
        "no doubt about it, {it} is a {N+}",
        "without question a {A+} {work}",
        "not only {A+}, {subj} {is/are} also {A+}",
        "{subj} {is/are} {A+}, not to say {A+}",
        "never have i been so {R+}",
        "{people} called it {A+}, and they were right",
        "i would call it a {N+}",
    ],
    # One clause in which a negator, an idiom or a verdict turns the polar word round.
    "negated": [
        *NEGATED_CLAUSES,
        "hardly a {A-} {work}",
        "{it} is certainly not {A-}",
        "{subj} {is/are} not {A-} in the least",
        "not {A-}, whatever {people} say",
        "{it} was never {A-}",
        "never {A-}, not even near the end",
        "this is no {N-}",
        "by no means a {N-}",
        "there is nothing {A-} about {subj}",
        "there is not a {A-} {part} in it",
        "not once was i {R-}",
        "nobody could call {subj} {A-}",
        "i would never call it a {N-}",
        "i cannot say that {subj} {is/are} {A-}",
        "i looked in vain for a {A-} {part}",
        "calling {subj} {A-} would be wrong",
        "{people} called it {A-}, and they were wrong",
        "{person} promised me a {N-}, and that was a lie",
        "{subj} rarely {V-}",
        "{subj} {is/are} hardly ever {A-}",
        "without a single {A-} {part}",
        "it is impossible to {Lbase-} {subj}",
        "nobody in our row {L-} it",
        "none of us {L-} {subj}",
        "no one i know {L-} {subj}",
        "i was not {R-} by {subj}",
        "never {A-} and never {A-}",
        "neither {A-} nor {A-}",
        "it stops being {A-} after ten minutes",
    ],
    # Two polarities: order, the main clause or the degree decides.
    "contrast": [
        "{concession-}, but {verdict+}",
        "{concession-}, yet {verdict+}",
        "{concession-}; still, {verdict+}",
        "although {concession-}, {verdict+}",
        "while {concession-}, {verdict+}",
        "{verdict+}, even though {concession-}",
        "{verdict+}, although {concession-}",
        "despite the {A-} {aspect}, {verdict+}",
        "{verdict+} despite the {A-} {aspect}",
        "for all its {A-} {parts}, {verdict+}",
        "{weak} {G-} at times but {strong} {A+} and {A+}",
        "{strong} {A+} and {A+}, if {weak} {G-} at times",
        "mostly {A+} and {A+}, with a few {A-} {parts}",
        "a few {A-} {parts} aside, {verdict+}",
        "i expected a {N-} and got a {A+} {N+}",
        "i got a {A+} {N+} where i expected a {N-}",
        "what begins as a {N-} turns into a {A+} {N+}",
        "less a {N-} than a {N+}",
        "more of a {N+} than a {N-}",
        "{subj} {is/are} more {A+} than {A-}",
        "{people} found it {A-}; to me it was {strong} {A+}",
        "{person} left {R-}, whereas i left {R+}",
        "a {N+}, whatever {people} say about its {A-} {aspect}",
        "{subj} {is/are} {weak} {G-} at first and {strong} {A+} by the end",
    ],
}

# ---------------------------------------------------------------------------------------------------- mini-nli
# One tree per kind of detail. A node entails its ancestors, excludes what is neither above nor below it, and is
# left open by its ancestors. ``|`` parts synonyms. The roots (first level) appear in premises only.
TREES = {
    "subject": {
        "something": {
            "animal|creature": {
                "dog": {"poodle": {}, "terrier": {}, "spaniel": {}, "beagle": {}},
                "cat": {"siamese cat": {}, "persian cat": {}},
                "horse": {"stallion": {}, "mare": {}},
                "bear": {"grizzly": {}, "panda": {}},
                "monkey": {"baboon": {}, "macaque": {}},
            },
            "person|human": {
                "adult|grown-up": {
                    "man|gentleman": {"waiter": {}, "monk": {}},
                    "woman|lady": {"waitress": {}, "nun": {}},
                },
                "child|youngster": {"boy|lad": {"schoolboy": {}}, "girl": {"schoolgirl": {}}},
            },
        }
    },
    "object": {
        "something": {
            "vehicle": {
                "car": {"taxi": {}, "racing car": {}},
                "truck|lorry": {},
                "bicycle|bike": {},
                "boat": {},
            },
            "instrument": {"guitar": {}, "violin|fiddle": {}, "drum": {}, "piano": {}},
            "garment": {"coat": {"raincoat": {}}, "shirt": {}, "hat": {"sombrero": {}}, "scarf": {}},
            "tool": {"hammer": {}, "spade": {}, "saw": {}},
            "toy": {"doll": {}, "kite": {}, "ball": {"football": {}}},
        }
    },
    "action": {
        "in view": {
            "moving|in motion": {
                "running": {"sprinting": {}, "jogging": {}},
                "walking": {"strolling": {}, "limping": {}},
                "jumping|leaping": {},
                "crawling": {},
            },
            "resting|taking a rest": {
                "sitting": {"sitting upright": {}},
                "standing still": {},
                "lying down": {"lying stretched out": {}},
                "kneeling": {},
            },
        }
    },
    "place": {
        "": {
            "indoors|inside a building": {
                "in the kitchen": {},
                "in the bedroom": {},
                "in the library": {},
                "in the bathroom": {},
                "in the museum": {},
                "in the gym": {},
            },
            "outdoors|in the open air": {
                "in the garden": {},
                "on the beach": {},
                "in the forest|in the woods": {},
                "in the desert": {},
                "in the meadow": {},
                "on the roof": {},
            },
        }
    },
    "time": {
        "": {
            "in the morning": {"at dawn|at daybreak": {}, "at nine in the morning": {}},
            "in the afternoon": {"at three in the afternoon": {}},
            "in the evening": {"at dusk|at nightfall": {}},
            "at midnight": {},
            "at noon|at midday": {},
        }
    },
    "colour": {
        "": {
            "red": {"scarlet": {}, "crimson": {}},
            "blue": {"navy blue": {}, "sky blue": {}},
            "green": {"emerald": {}, "olive green": {}},
            "yellow": {"lemon yellow": {}},
            "white": {"snow white": {}},
            "black": {"jet black": {}},
            "brown": {"chestnut brown": {}},
        }
    },
    "number": {
        "some": {
            "two|a pair of": {},
            "three": {},
            "four": {},
            "five": {},
            "six|half a dozen": {},
            "seven": {},
            "eight": {},
        }
    },
}
# States come in opposite pairs; pairs leave one another open.
STATES = [
    ("strong|powerful", "weak|feeble"),
    ("big|large", "small|little"),
    ("wet|soaked", "dry"),
    ("happy|cheerful", "sad|unhappy"),
    ("clean", "dirty|filthy"),
    ("hungry", "well-fed"),
    ("fat|plump", "thin|slim"),
    ("calm", "nervous|anxious"),
]
# Verbs: (-ing form, participle). Any person can do the first kind with any object, and several at once.
VERBS = [("buying", "bought"), ("painting", "painted"), ("cleaning", "cleaned"), ("drawing", "drawn")]
VERBS += [
    ("inspecting", "inspected"),
    ("describing", "described"),
    ("choosing", "chosen"),
    ("guarding", "guarded"),
]
# Opposites that one person cannot do to one thing at once.
OPPOSITE_VERBS = [
    (("pushing", "pushed"), ("pulling", "pulled")),
    (("lifting", "lifted"), ("lowering", "lowered")),
    (("buying", "bought"), ("selling", "sold")),
    (("building", "built"), ("wrecking", "wrecked")),
    (("hiding", "hidden"), ("displaying", "displayed")),
    (("wrapping", "wrapped"), ("unwrapping", "unwrapped")),
    (("lending", "lent"), ("borrowing", "borrowed")),
    (("throwing", "thrown"), ("catching", "caught")),
]
SMALL_OBJECTS = ["doll", "kite", "ball", "drum", "hat", "hammer", "guitar", "spade", "scarf", "shirt"]
# Deeds that run one way only.
ROLE_VERBS = [("carrying", "carried"), ("chasing", "chased"), ("tickling", "tickled"), ("leading", "led")]
ROLE_VERBS += [("washing", "washed"), ("feeding", "fed"), ("teaching", "taught"), ("examining", "examined")]
ROLE_VERBS += [("rescuing", "rescued"), ("photographing", "photographed"), ("waking", "woken"), ("calming", "calmed")]
ROLE_NOUNS = ["nurse", "farmer", "teacher", "soldier", "singer", "baker", "painter", "doctor", "pilot"]
ROLE_NOUNS += ["sailor", "lawyer", "tailor"]
OPEN_VERBS = ["looking at", "standing next to", "thinking about", "pointing at"]

# Patterns of hypotheses, by the detail they test; {not} is empty or "not ".
HYPOTHESES = {
    "subject": [
        "it is {not}a {value} that is {act}",
        "the one {act} is {not}a {value}",
        "the one that we see {act} is {not}a {value}",
        "what we see {act} is {not}a {value}",
    ],
    "object": [
        "the {s} is {not}{verb} a {value}",
        "it is {not}a {value} that the {s} is {verb}",
        "what the {s} is {verb} is {not}a {value}",
        "the thing being {ved} by the {s} is {not}a {value}",
    ],
    "action": [
        "the {s} is {not}{value}",
        "right now, the {s} is {not}{value}",
        "what we see is {not}a {s} {value}",
        "the {s} in this scene is {not}{value}",
    ],
    "place": [
        "the {s} is {not}{value}",
        "the {s} that is {act} is {not}{value}",
        "it is {not}{value} that the {s} is {act}",
        "the scene is {not}set {value}",
    ],
    "time": [
        "the {s} is {act}, and it is {not}happening {value}",
        "it is {not}{value} that the {s} is {act}",
        "the scene is {not}set {value}",
        "all this is {not}taking place {value}",
    ],
    "colour": [
        "the {o} is {not}{value}",
        "the {s} is {not}{verb} a {value} {o}",
        "the {o} that the {s} is {verb} is {not}{value}",
        "it is {not}a {value} {o} that the {s} is {verb}",
    ],
    "number": [
        "there are {not}{value} {s} in the scene",
        "the number of {s} is {not}{value}",
        "it is {not}{value} {s} that are {act}",
        "the {s} that are {act} are {not}{value} in number",
    ],
    "state": [
        "the {s} is {not}{value}",
        "the {s} that is {act} is {not}{value}",
        "the one {act} is {not}{value}",
        "it is {not}a {value} {s} that is {act}",
    ],
    "verb": [
        "the {s} is {not}{value} the {o}",
        "the {o} is {not}being {ved} by the {s}",
        "what the {s} is doing is {not}{value} the {o}",
        "the {s} in this scene is {not}{value} a {o}",
    ],
    "roles": [
        "the {s} is {not}{value} the {o}",
        "the {o} is {not}being {ved} by the {s}",
        "in this scene, the {s} is {not}{value} the {o}",
        "it is {not}true that the {s} is {value} the {o}",
    ],
}
PLURALS = {"man": "men", "woman": "women", "child": "children", "gentleman": "gentlemen", "person": "people"}
