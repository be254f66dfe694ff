"""Kinds of prompts that ask for a fact of which many are right."""

from __future__ import annotations

from baco.tiny.kinds.model import FACTS, PromptKind, words

PEOPLE = words("my quiz, my lesson, my crossword, my essay, my notebook")


def _fact(
    name: str,
    noun: str,
    plural: str,
    slot: str,
    phrase: str,
    values: dict[str, str],
    tails: tuple[str, ...],
    article: bool = False,
) -> PromptKind:
    form = "{a_x}" if article else "{x}"
    first = "{A_x}" if article else "{X}"
    one = f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
    where = phrase.replace("_", "{" + slot + "}")
    return PromptKind(
        name=name,
        category=FACTS,
        ask=(
            f"Name {one} {where} for {{use}}.",
            f"I need one {noun} {where} for {{use}}.",
            f"Which {noun} {where} could I use in {{use}}?",
            f"Tell me {one} {where} for {{use}}.",
            f"For {{use}} I want one {noun} {where}.",
            f"Give me any {noun} {where} for {{use}}.",
        ),
        slots={slot: tuple(values), "use": PEOPLE},
        contents={"x": {k: words(v) for k, v in values.items()}},
        key=slot,
        lead=(
            f"[One|A good] {noun} {where} is {form}.",
            f"{first} is {one} {where}.",
            f"[You could use|I would pick|I would choose] {form}.",
            f"[How about|What about] {form}?",
            f"For {{use}} I would [take|choose] {form}.",
        ),
        tails=(
            f"There are [many|several] other {plural} {where}.",
            f"It is a well-known {noun}.",
            "It would fit {use} [well|nicely].",
            *tails,
        ),
    )


FACT_KINDS = (
    _fact(
        "city",
        "city",
        "cities",
        "country",
        "in _",
        {
            "Italy": "Rome, Milan, Naples, Turin, Florence, Venice, Bologna, Genoa, Palermo, "
            "Verona, Pisa, Bari",
            "France": "Paris, Lyon, Marseille, Nice, Bordeaux, Lille, Nantes, Toulouse, Dijon, "
            "Rouen, Reims, Tours",
            "Spain": "Madrid, Seville, Valencia, Bilbao, Granada, Toledo, Malaga, Cadiz, Leon, "
            "Girona, Burgos, Murcia",
            "Japan": "Tokyo, Kyoto, Osaka, Nara, Kobe, Sapporo, Nagoya, Sendai, Fukuoka, Nagano, "
            "Hiroshima, Yokohama",
            "Germany": "Berlin, Hamburg, Munich, Cologne, Dresden, Leipzig, Bremen, Bonn, "
            "Hanover, Mainz, Kiel, Ulm",
        },
        ("Many people [live there|visit it].",),
    ),
    _fact(
        "fruit",
        "fruit",
        "fruits",
        "colour",
        "that can be _",
        {
            "red": "cherry, strawberry, raspberry, apple, pomegranate, cranberry, currant, plum, "
            "watermelon, grape",
            "yellow": "lemon, banana, pineapple, mango, pear, quince, melon, starfruit, apple, "
            "grapefruit",
            "green": "kiwi, lime, gooseberry, grape, pear, apple, avocado, melon, fig, guava",
            "purple": "plum, fig, blackberry, grape, mulberry, blueberry, elderberry, "
            "passion fruit, damson, sloe",
        },
        ("It tastes [sweet|best] when it is ripe.",),
        article=True,
    ),
    _fact(
        "animal",
        "animal",
        "animals",
        "place",
        "from _",
        {
            "the forest": "fox, deer, badger, owl, squirrel, bear, wolf, boar, woodpecker, lynx",
            "the sea": "whale, dolphin, octopus, shark, crab, squid, seal, lobster, jellyfish, "
            "stingray",
            "the desert": "camel, scorpion, gecko, jackal, vulture, lizard, rattlesnake, meerkat, "
            "tortoise, fennec",
            "the jungle": "tiger, monkey, parrot, jaguar, gorilla, sloth, toucan, anaconda, "
            "tapir, leopard",
            "the mountains": "eagle, goat, marmot, ibex, yak, condor, llama, chamois, hare, "
            "snow leopard",
        },
        ("It knows how to [find food|stay safe] there.",),
        article=True,
    ),
    _fact(
        "instrument",
        "musical instrument",
        "instruments",
        "family",
        "with _",
        {
            "strings": "violin, cello, harp, guitar, lute, banjo, viola, mandolin, zither, ukulele",
            "keys": "piano, organ, accordion, harpsichord, celesta, clavichord, melodica, "
            "spinet, synthesizer, harmonium",
            "a reed": "clarinet, oboe, bassoon, saxophone, bagpipe, harmonica, shawm, concertina, "
            "duduk, crumhorn",
            "a drum skin": "tambourine, bongo, timpani, snare, tabla, conga, djembe, tom, bodhran, "
            "taiko",
        },
        ("It takes [practice|patience] to play it well.",),
        article=True,
    ),
    _fact(
        "food",
        "dish",
        "dishes",
        "country",
        "from _",
        {
            "Italy": "pizza, lasagne, risotto, gnocchi, ravioli, polenta, carbonara, minestrone, "
            "focaccia, tiramisu",
            "Mexico": "tacos, burritos, enchiladas, guacamole, tamales, mole, quesadillas, "
            "pozole, churros, ceviche",
            "India": "curry, dal, biryani, samosas, naan, dosa, paneer, raita, korma, pakora",
            "Japan": "sushi, ramen, tempura, udon, miso soup, sashimi, onigiri, soba, gyoza, mochi",
        },
        ("It is often eaten with [friends|family].",),
    ),
    _fact(
        "job",
        "job",
        "jobs",
        "place",
        "that people do _",
        {
            "outdoors": "gardener, farmer, shepherd, forester, fisher, builder, guide, lifeguard, "
            "postman, sailor",
            "in a hospital": "nurse, surgeon, midwife, pharmacist, porter, cleaner, doctor, "
            "chemist, cook, secretary",
            "in a school": "teacher, librarian, caretaker, cook, headmaster, nurse, coach, "
            "secretary, tutor, janitor",
            "in a theatre": "actor, dancer, singer, director, tailor, painter, usher, carpenter, "
            "writer, conductor",
        },
        ("It can be [hard|good] work.",),
        article=True,
    ),
    _fact(
        "sport",
        "sport",
        "sports",
        "place",
        "_",
        {
            "with a ball": "football, tennis, rugby, basketball, volleyball, golf, cricket, "
            "handball, baseball, bowling",
            "in water": "swimming, diving, water polo, rowing, surfing, sailing, canoeing, "
            "snorkelling, rafting, kayaking",
            "in the snow": "skiing, snowboarding, sledging, curling, ice hockey, biathlon, "
            "bobsleigh, "
            "skating, luge, ski jumping",
            "for one person": "running, cycling, archery, climbing, yoga, boxing, fencing, "
            "gymnastics, "
            "darts, weightlifting",
        },
        ("It keeps you [fit|warm|young].",),
    ),
    _fact(
        "material",
        "material",
        "materials",
        "thing",
        "for _",
        {
            "clothes": "cotton, wool, silk, linen, leather, denim, velvet, nylon, felt, fleece",
            "houses": "brick, stone, wood, glass, concrete, clay, slate, steel, straw, marble",
            "jewellery": "gold, silver, amber, pearl, jade, copper, coral, platinum, ruby, bronze",
            "toys": "wood, plastic, tin, rubber, cloth, cardboard, felt, paper, foam, wax",
        },
        ("People have used it for [years|centuries].",),
    ),
    PromptKind(
        name="planet fact",
        category=FACTS,
        ask=(
            "Tell me {a_adj} fact about the {body} for my {reader}.",
            "What is {a_adj} fact about the {body} that my {reader} would like?",
            "I want to tell my {reader} {a_adj} fact about the {body}.",
            "My {reader} asked for {a_adj} fact about the {body}.",
            "Share {a_adj} fact about the {body} with my {reader}.",
        ),
        slots={
            "body": words("Moon, Sun, Earth"),
            "adj": words("cool, simple, surprising, short"),
            "reader": words("son, daughter, class, neighbour"),
        },
        key="body",
        contents={
            "x": {
                "Moon": words(
                    "has no wind at all, is slowly moving away from us, "
                    "shows us only one side, pulls the tides of the sea, has many craters, "
                    "has very little gravity, is covered in fine dust, "
                    "gives no light of its own, has mountains and plains, "
                    "has been visited by people"
                ),
                "Sun": words(
                    "is a star, is mostly hydrogen, is far bigger than any planet, "
                    "gives us light and heat, has dark spots, turns around itself, "
                    "makes plants grow, is billions of years old, "
                    "holds the planets together, has a very hot core"
                ),
                "Earth": words(
                    "is mostly covered by water, turns around itself once a day, "
                    "has one moon, is not perfectly round, has a hot iron core, "
                    "is home to millions of species, has air that we can breathe, "
                    "goes around the Sun once a year, has a magnetic field, "
                    "has ice at both poles"
                ),
            }
        },
        lead=(
            "The {body} {x}.",
            "Did you know that the {body} {x}?",
            "I like that the {body} {x}.",
            "[One|A {adj}] fact is that the {body} {x}.",
        ),
        tails=(
            "Your {reader} [may|will] [like|remember] that.",
            "There is [much|a lot] more to learn about the {body}.",
            "I think that is {a_adj} fact.",
        ),
    ),
    PromptKind(
        name="old invention",
        category=FACTS,
        ask=(
            "Name {a_adj} invention that helps {who} at {place}.",
            "Which {adj} invention helps {who} at {place}?",
            "I am looking for {a_adj} invention that {who} use at {place}.",
            "Tell me {a_adj} invention for {who} at {place}.",
            "What is {a_adj} invention that {who} need at {place}?",
        ),
        slots={
            "adj": words("useful, clever, old, simple"),
            "who": words("cooks, students, parents, doctors, drivers"),
            "place": words("home, work, night"),
        },
        contents={
            "x": words(
                "clock, lamp, pencil, telephone, radio, camera, fridge, bicycle, umbrella, "
                "calendar, "
                "thermometer, mirror, battery, match, lock, kettle, compass, bell, scale, torch"
            )
        },
        lead=(
            "[One|A good|A {adj}] invention is the {x}.",
            "The {x} is {a_adj} invention.",
            "[I would say|I would choose|Think of] the {x}.",
            "[How about|What about] the {x}?",
        ),
        tails=(
            "It helps {who} [every day|at {place}].",
            "Many {who} could not [work|live] without it.",
            "It is still {adj} today.",
        ),
    ),
    PromptKind(
        name="quality",
        category=FACTS,
        ask=(
            "What is the most important quality of a {adj} {role}?",
            "Name one quality that every {adj} {role} needs.",
            "Which quality makes a {adj} {role}?",
            "In one sentence, what does a {adj} {role} need most?",
            "Tell me one quality of a {adj} {role}.",
        ),
        slots={
            "adj": words("good, great, modern, happy"),
            "role": words("teacher, friend, nurse, leader, neighbour, writer"),
        },
        contents={
            "x": words(
                "patience, honesty, humour, courage, kindness, curiosity, trust, empathy, "
                "discipline, "
                "humility, energy, wisdom, loyalty, imagination, respect, calmness, fairness, "
                "optimism, warmth, generosity"
            )
        },
        lead=(
            "[I would say|I think it is|For me it is] {x}.",
            "{X} is what a {adj} {role} needs most.",
            "A {adj} {role} needs {x} [most|above all].",
            "The most important quality is {x}.",
        ),
        tails=(
            "Without it, a {role} will not [get far|last long].",
            "Every {role} can learn it.",
            "With {x}, [the rest|everything else] becomes [easier|possible].",
        ),
    ),
)
