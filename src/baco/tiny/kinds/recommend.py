"""Kinds of prompts that ask for a recommendation."""

from __future__ import annotations

from collections.abc import Mapping

from baco.tiny.kinds.model import RECOMMENDATIONS, PromptKind, words


def _recommend(
    name: str,
    ask: tuple[str, ...],
    slots: Mapping[str, str],
    values: str,
    lead: tuple[str, ...],
    tails: tuple[str, ...],
) -> PromptKind:
    return PromptKind(
        name=name,
        category=RECOMMENDATIONS,
        ask=ask,
        slots={slot: words(listed) for slot, listed in slots.items()},
        contents={"x": words(values)},
        lead=lead,
        tails=tails,
    )


RECOMMENDATION_KINDS = (
    _recommend(
        "trip",
        (
            "Suggest a {season} trip destination.",
            "Suggest a {season} trip destination for {who}.",
            "Where should {who} go on a {season} trip?",
            "Recommend one place for a {season} trip with {who}.",
            "I am planning a {season} trip for {who}. Name a destination.",
        ),
        {
            "season": "summer, winter, spring, autumn, weekend",
            "who": "two friends, my family, my parents, our class, a couple",
        },
        "Lisbon, Iceland, Kyoto, Sicily, Norway, Vienna, Morocco, Crete, Prague, Scotland, "
        "Madeira, "
        "Hanoi, Ireland, Croatia, Oslo, Istanbul, Cape Town, Malta, Budapest, Peru",
        (
            "[How about|What about] {x}?",
            "[Try|Consider] {x}.",
            "I would [go to|choose|pick] {x}.",
            "{x} [is|would be] [lovely|perfect|wonderful] for a {season} trip.",
            "My [choice|pick] for a {season} trip is {x}.",
            "A {season} trip to {x} [is|would be] a good [idea|choice].",
        ),
        (
            "The [food|weather|view] is [great|lovely] and the people are [kind|friendly].",
            "There is [a lot|so much] to [see|do] in {x}.",
            "You will [love|enjoy] the [old streets|long walks|fresh air|quiet mornings].",
            "Book early, because {x} is popular.",
        ),
    ),
    _recommend(
        "gift",
        (
            "Suggest a {occasion} gift for my {person}.",
            "What should I give my {person} as a {occasion} gift?",
            "Recommend one {occasion} gift for a {person}.",
            "I need a {occasion} gift for my {person}.",
            "My {person} deserves a good {occasion} gift. Name one.",
        ),
        {
            "occasion": "birthday, wedding, farewell, christmas, graduation",
            "person": "sister, brother, uncle, grandmother, boss, neighbour, cousin",
        },
        "warm scarf, cookbook, photo album, board game, potted plant, leather wallet, desk lamp, "
        "box of chocolates, tea set, fountain pen, travel bag, picture frame, watch, "
        "concert ticket, jigsaw puzzle, woollen blanket, sketchbook, picnic basket, "
        "wooden bowl, silver bracelet",
        (
            "[How about|What about] {a_x}?",
            "[Buy|Get|Give] your {person} {a_x}.",
            "I would [buy|choose|pick] {a_x}.",
            "{A_x} [is|would be] a [lovely|good|fine] {occasion} gift.",
            "My [suggestion|choice] for a {person} is {a_x}.",
        ),
        (
            "Your {person} will [love|use|enjoy] it.",
            "It is [personal|useful|pretty] and not too expensive.",
            "Add a [short|handwritten] note to the {occasion} gift.",
        ),
    ),
    _recommend(
        "dinner",
        (
            "Suggest a {adj} dinner for {who}.",
            "What {adj} dinner can I cook for {who}?",
            "Recommend one {adj} dish for {who}.",
            "I want to cook a {adj} dinner for {who}. Name one dish.",
            "Tell me a {adj} dinner that I can make for {who}.",
        ),
        {
            "adj": "quick, cheap, healthy, warm, festive",
            "who": "two people, six guests, my children, my flatmates, a date",
        },
        "mushroom risotto, tomato soup, vegetable curry, roast chicken, lentil stew, "
        "spinach lasagne, baked salmon, potato gratin, noodle soup, bean tacos, onion tart, "
        "stuffed peppers, fried rice, pumpkin soup, pasta with pesto, cheese fondue, "
        "chickpea stew, fish pie, pancakes, grilled vegetables",
        (
            "[How about|What about] {x}?",
            "[Try|Consider] {x}.",
            "[Cook|Make] {x} for {who}.",
            "I would [cook|make|choose] {x}.",
            "{X} [is|would be] a [good|nice|fine] {adj} dinner.",
            "My [choice|favourite] for {who} is {x}.",
        ),
        (
            "Serve it with [bread|salad|a green salad|lemon water].",
            "It is {adj} and tastes even better the next day.",
            "You need only [a few|five] ingredients.",
        ),
    ),
    _recommend(
        "hobby",
        (
            "Recommend a hobby for a {adj} {person}.",
            "Which hobby would suit a {adj} {person}?",
            "Suggest one hobby for a {adj} {person}.",
            "A {adj} {person} wants a new hobby. Name one.",
            "Tell me a good hobby for a {adj} {person}.",
        ),
        {
            "adj": "busy, lonely, restless, quiet, curious",
            "person": "student, teacher, nurse, pensioner, teenager",
        },
        "pottery, gardening, chess, birdwatching, knitting, painting, photography, baking, "
        "woodworking, dancing, astronomy, origami, hiking, singing, juggling, calligraphy, "
        "cycling, sewing, fishing, writing",
        (
            "[How about|What about] {x}?",
            "[Try|Consider] {x}.",
            "I would [try|suggest|recommend] {x}.",
            "{X} [is|would be] a [good|great|fine] hobby for a {adj} {person}.",
            "A {adj} {person} would enjoy {x}.",
            "My [suggestion|tip] is {x}.",
        ),
        (
            "It is [cheap|fun|calming] and easy to start.",
            "A {person} can do it [at home|after work|on weekends].",
            "You [meet|get to know] [new|kind] people that way.",
        ),
    ),
    _recommend(
        "weekend",
        (
            "What can {who} do on a {adj} weekend?",
            "Suggest a plan for a {adj} weekend with {who}.",
            "Recommend one activity for {who} on a {adj} weekend.",
            "It will be a {adj} weekend. What should {who} do?",
            "Name one thing that {who} could do on a {adj} weekend.",
        ),
        {
            "adj": "rainy, sunny, cold, free, long",
            "who": "two children, three friends, my family, a couple, my roommates",
        },
        "visit a museum, bake bread, go to the lake, play board games, watch old films, "
        "build a kite, have a picnic, go to the market, plant herbs, tidy the attic, "
        "ride bicycles, paint a wall, cook a big meal, write letters, go swimming, "
        "see a play, sleep late, climb a hill, fix the radio, make music",
        (
            "[How about|What about] this: {x}.",
            "You could {x}.",
            "{Who} could {x}.",
            "I would {x}.",
            "On a {adj} weekend it is nice to {x}.",
            "Why not {x}?",
        ),
        (
            "That is [fun|perfect] on a {adj} weekend.",
            "It [costs little|needs no plan] and everybody can join.",
            "Take [some snacks|a camera|your time].",
        ),
    ),
    _recommend(
        "houseplant",
        (
            "Recommend a plant for a {adj} {room}.",
            "Which plant would grow in a {adj} {room}?",
            "Suggest one plant for my {adj} {room}.",
            "My {adj} {room} needs a plant. Name one.",
            "Tell me a plant that is right for a {adj} {room}.",
        ),
        {
            "adj": "dark, bright, small, cold, sunny",
            "room": "bathroom, kitchen, office, hall, bedroom",
        },
        "fern, cactus, aloe, orchid, spider plant, peace lily, rubber tree, ivy, snake plant, "
        "lemon tree, basil, bamboo, palm, begonia, violet, jade plant, monstera, mint, jasmine, "
        "geranium",
        (
            "[How about|What about] {a_x}?",
            "[Try|Consider] {a_x}.",
            "I would [put|place] {a_x} there.",
            "{A_x} [is|would be] a [good|fine|nice] plant for a {adj} {room}.",
            "{A_x} [grows|does] well in a {adj} {room}.",
            "My [choice|tip] for a {room} is {a_x}.",
        ),
        (
            "Water it [once a week|when the soil is dry|on Sundays].",
            "It will make your {room} look [fresh|alive].",
            "It needs [little|only a little] care in a {adj} room.",
        ),
    ),
    _recommend(
        "dessert",
        (
            "Suggest a {adj} dessert for {event}.",
            "Which {adj} dessert should I bring to {event}?",
            "Recommend one {adj} dessert for {event}.",
            "I need a {adj} dessert for {event}.",
            "Name a {adj} dessert that fits {event}.",
        ),
        {
            "adj": "simple, light, fruity, rich, cold",
            "event": "a picnic, a wedding, a school party, a family lunch, a garden party",
        },
        "apple pie, lemon cake, rice pudding, chocolate mousse, fruit salad, plum crumble, "
        "vanilla custard, carrot cake, cherry tart, cheesecake, banana bread, walnut brownies, "
        "peach sorbet, almond biscuits, bread pudding, honey cake, pear trifle, "
        "ginger cookies, berry jelly, caramel flan",
        (
            "[How about|What about] {x}?",
            "[Try|Consider] {x}.",
            "[Bring|Make] {x} to {event}.",
            "I would [bring|make|choose] {x}.",
            "{X} [is|would be] a [good|nice|lovely] {adj} dessert.",
            "My [choice|favourite] for {event} is {x}.",
        ),
        (
            "You can make it [the day before|in an hour|in the morning].",
            "It is {adj} and everybody likes it.",
            "Add [cream|fresh mint|a few berries] on top.",
        ),
    ),
    _recommend(
        "pet",
        (
            "Which pet is right for a {adj} {person}?",
            "Recommend a pet for a {adj} {person}.",
            "Suggest one pet for a {adj} {person}.",
            "A {adj} {person} wants a pet. Name one.",
            "Tell me a good pet for a {adj} {person}.",
        ),
        {
            "adj": "young, busy, quiet, careful, cheerful",
            "person": "family, couple, student, child, widow",
        },
        "cat, hamster, rabbit, goldfish, tortoise, budgie, dog, guinea pig, gecko, canary, "
        "ferret, mouse, snail, hedgehog, parrot, frog, chicken, pony, gerbil, newt",
        (
            "[How about|What about] {a_x}?",
            "I would [get|choose|suggest] {a_x}.",
            "{A_x} [is|would be] [right|good|perfect] for a {adj} {person}.",
            "A {adj} {person} could [keep|have] {a_x}.",
            "My [suggestion|choice] is {a_x}.",
        ),
        (
            "It is [easy|cheap] to [feed|keep] and nice to [watch|have around].",
            "Make sure that the {person} has enough [time|space].",
            "It [brings|gives] [joy|company] to a {adj} {person}.",
        ),
    ),
    _recommend(
        "film topic",
        (
            "What should my {genre} {work} be about?",
            "Give me a topic for a {genre} {work}.",
            "Suggest one topic for my {genre} {work}.",
            "I am writing a {genre} {work}. Name a topic.",
            "Which topic would suit a {genre} {work}?",
        ),
        {"genre": "funny, sad, romantic, short, scary", "work": "film, play, poem, novel, song"},
        "a lost twin, the last bookshop, a stolen painting, two rival bakers, a long winter, "
        "a talking mirror, an empty hotel, a secret garden, a broken promise, the first snow, "
        "a night train, a forgotten island, a shy inventor, an old letter, a travelling circus, "
        "the end of summer, a wrong phone call, a haunted mill, a school reunion, a sleepless town",
        (
            "[How about|What about] {x}?",
            "[Write|Make it] about {x}.",
            "I would [write|choose|tell a story] about {x}.",
            "{X} [is|would be] a [good|strong|fresh] topic for a {genre} {work}.",
            "My [idea|suggestion] for a {work} is {x}.",
        ),
        (
            "It can be very {genre} if you tell it well.",
            "The {work} [almost writes itself|needs only three people].",
            "[People|Everybody] will want to know how it ends.",
        ),
    ),
    _recommend(
        "icebreaker",
        (
            "Give me a question to ask {who} at {event}.",
            "What could I ask {who} at {event}?",
            "Suggest one question for {who} at {event}.",
            "I want to start a talk with {who} at {event}. Give me a question.",
            "Tell me a good question for {who} at {event}.",
        ),
        {
            "who": "a stranger, my new boss, a classmate, my neighbour",
            "event": "a party, a wedding, lunch, a concert, the office",
        },
        "what made you laugh this week, which book changed your mind, where you would live, "
        "what you cook best, who taught you the most, what you collect, which song you know by "
        "heart, what you dream about, where you grew up, which smell you love, "
        "what you are afraid of, which animal you would be, what you would never sell, "
        "when you feel free, what you do on Sundays, which film makes you cry, "
        "who your hero is, what you want to learn, which word you like, how you relax",
        (
            "[You could ask|I would ask|Try asking] {x}.",
            "[Ask|Ask {who}] {x}.",
            "A good question is {x}.",
            "At {event} I like to ask {x}.",
        ),
        (
            "It is [friendly|easy|personal] and fits {event}.",
            "Then [listen|smile] and tell your own story.",
            "Most people [like|love] to talk about that.",
        ),
    ),
    PromptKind(
        name="joke",
        category=RECOMMENDATIONS,
        ask=(
            "Tell me a {adj} joke for {who}.",
            "Do you know a {adj} joke for {who}?",
            "I want to tell {who} a {adj} joke.",
            "Make {who} laugh with a {adj} joke.",
            "Give me one {adj} joke that {who} would like.",
        ),
        slots={
            "adj": words("dad, silly, clean, short, quick"),
            "who": words("my uncle, my class, my team, the kids, my aunt"),
        },
        contents={
            "x": (
                "clock go to school:It wanted more time",
                "candle leave the party:It felt burnt out",
                "pillow see a doctor:It had lost its filling",
                "cheese look in the mirror:It wanted to see a slice of life",
                "pencil quit the race:It had no point",
                "shoe join the choir:It had plenty of sole",
                "lamp fail the test:It was not very bright",
                "baker go to the bank:The dough was waiting",
                "ladder feel proud:It was a step above the rest",
                "teapot call for help:It was in hot water",
                "broom miss the bus:It had overswept",
                "river go to the bank:It was its usual bed",
                "onion get the part:It could make anyone cry",
                "calendar look worried:Its days were numbered",
                "window stay home:It had a pane",
                "carpet go to court:It had been covering something up",
                "sailor learn the alphabet:He was lost at C",
                "drum lie down:It was beat",
                "elevator tell jokes:They work on every level",
                "bicycle fall over:It was too tired",
            )
        },
        lead=(
            "Why did the {x}? {note}.",
            "[Here is one|Try this one|Here is a {adj} one]: why did the {x}? {note}.",
        ),
        tails=(
            "I hope {who} will [laugh|smile].",
            "[Sorry|I am sorry] about that.",
            "That is a {adj} one.",
        ),
    ),
)
