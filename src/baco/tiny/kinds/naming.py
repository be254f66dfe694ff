"""Kinds of prompts that ask for a name or a random choice."""

from __future__ import annotations

from baco.tiny.kinds.model import NAMING, PromptKind, words

WORKS = words("story, film, song, comic, game, novel")


def _name(
    name: str,
    noun: str,
    adjectives: str,
    values: str,
    tails: tuple[str, ...],
    verb: str = "Name",
) -> PromptKind:
    return PromptKind(
        name=name,
        category=NAMING,
        ask=(
            f"{verb} the {{adj}} {noun} in my {{work}}.",
            f"What should I call the {{adj}} {noun} in my {{work}}?",
            f"I need a name for {{a_adj}} {noun} in a {{work}}.",
            f"My {{work}} has {{a_adj}} {noun} without a name. Suggest one.",
            f"Suggest a name for {{a_adj}} {noun} in a {{work}}.",
            f"Give me one name for the {{adj}} {noun} of my {{work}}.",
        ),
        slots={"adj": words(adjectives), "work": WORKS},
        contents={"x": words(values)},
        lead=(
            "[How about|What about] {x}?",
            f"[Call|Name] the {{adj}} {noun} {{x}}.",
            f"I would [call|name] the {noun} {{x}}.",
            f"{{x}} [is|would be] a [good|fine|lovely] name for {{a_adj}} {noun}.",
            f"My [choice|pick] for the {{adj}} {noun} is {{x}}.",
            f"{{A_adj}} {noun} could be called {{x}}.",
        ),
        tails=(
            f"It suits [{{a_adj}} {noun}|a {{work}}] very well.",
            "It is [short|warm|simple] and easy to [say|remember|spell].",
            "{x} will [sound good|look nice] in a {work}.",
            *tails,
        ),
    )


NAMING_KINDS = (
    _name(
        "dog name",
        "dog",
        "loyal, sleepy, brave, playful, shaggy, clever",
        "Biscuit, Maple, Bramble, Rusty, Pepper, Hazel, Scout, Otis, Juniper, Waffles, Moss, "
        "Captain, Ziggy, Fern, Barley, Tucker, Olive, Rufus, Clover, Button",
        ("You can shout it across a [park|field|beach].",),
    ),
    _name(
        "cat name",
        "cat",
        "lazy, proud, curious, gentle, grumpy, tiny",
        "Mittens, Saffron, Pickle, Luna, Ink, Marble, Velvet, Pudding, Shadow, Nutmeg, Willow, "
        "Smudge, Duchess, Tango, Pearl, Sooty, Cricket, Felix, Poppy, Ash",
        ("It sounds like a soft [purr|paw|blanket].",),
    ),
    _name(
        "horse name",
        "horse",
        "wild, grey, fast, noble, old, young",
        "Thunder, Misty, Comet, Silver, Amber, Storm, Willow, Bandit, Dancer, Copper, Falcon, "
        "Meadow, Blaze, Aurora, Domino, Echo, Ranger, Velvet, Juno, Flint",
        ("It makes me think of [hooves|wind|hills].",),
    ),
    _name(
        "robot name",
        "robot",
        "friendly, broken, huge, shy, golden, rusty",
        "Bolt, Pixel, Sprocket, Gizmo, Cog, Widget, Tinker, Nova, Orbit, Circuit, Echo, Dot, "
        "Ratchet, Beacon, Chip, Vector, Spanner, Atlas, Zero, Copper",
        ("It has a bright [metal|electric] sound.",),
    ),
    _name(
        "dragon name",
        "dragon",
        "ancient, small, kind, angry, blue, hungry",
        "Ember, Cinder, Smoulder, Frost, Onyx, Talon, Saffra, Grimble, Ashwing, Velora, Scorch, "
        "Brimble, Tempest, Rook, Sable, Mordan, Flicker, Garnet, Ignis, Zephyr",
        ("You can almost [hear the wings|smell the smoke].",),
    ),
    _name(
        "village name",
        "village",
        "quiet, lost, rich, snowy, windy, hidden",
        "Willowby, Stonebrook, Ashford, Mossley, Thornfield, Ravenhill, Merrow, Fernwick, "
        "Oldbridge, Harrowdale, Millbrook, Foxley, Greywater, Larkhill, Saltmarsh, Elmstead, "
        "Northwick, Applecross, Brackenfell, Dunmere",
        ("It sounds like a place with [a mill|a bridge|a market].",),
    ),
    _name(
        "ship name",
        "pirate ship",
        "fearsome, sunken, stolen, lucky, slow, black",
        "Salty Lass, Red Gull, Sea Wolf, Broken Oath, Night Heron, Jolly Crab, Iron Mermaid, "
        "Last Coin, Grey Shark, Storm Petrel, Golden Eel, Wicked Tide, Merry Ghost, Coral Queen, "
        "Blind Parrot, Silent Bell, Devil Wave, Rum Runner, Lost Anchor, Old Thunder",
        ("Every sailor would [fear|know|cheer] it.",),
    ),
    _name(
        "wizard name",
        "wizard",
        "wise, forgetful, young, evil, famous, poor",
        "Aldric, Merrin, Oswin, Fennimore, Thaddeus, Balthar, Corvin, Elowen, Quill, Sorrel, "
        "Mordecai, Hesper, Tobias, Ambrose, Zephyrin, Lysander, Wendel, Barnaby, Isolde, Pippin",
        ("It smells of [old books|candles|magic].",),
    ),
    PromptKind(
        name="cafe name",
        category=NAMING,
        ask=(
            "Suggest a name for a {adj} cafe {place}.",
            "What should I call my {adj} cafe {place}?",
            "I am opening a {adj} cafe {place}. Give me one name.",
            "Name my new {adj} cafe {place}.",
            "My {adj} cafe {place} still needs a name.",
        ),
        slots={
            "adj": words("cosy, modern, tiny, cheerful, quiet"),
            "place": words(
                "by the sea, near the station, in the old town, next to a school, on a hill"
            ),
        },
        contents={
            "x": words(
                "The Copper Kettle, Second Cup, Morning Bird, The Blue Saucer, Crumb and Cream, "
                "Paper Moon, The Lazy Spoon, Sugar Lane, Bean Street, Honey Pot, The Corner Table, "
                "Warm Hands, The Open Window, Daily Grain, Little Steam, The Red Teapot, "
                "Slow Sunday, "
                "Cinnamon House, The Happy Mug, Lemon Tree"
            )
        },
        lead=(
            "[How about|What about] {x}?",
            "[Call|Name] [it|your cafe] {x}.",
            "I would [call|name] it {x}.",
            "{x} [is|would be] a [good|fine|lovely] name for a {adj} cafe.",
            "My [choice|pick] for a cafe {place} is {x}.",
        ),
        tails=(
            "It suits a {adj} [cafe|room] {place}.",
            "It is [short|warm|simple] and easy to [say|remember|spell].",
            "People will [smile|stop] when they read the sign.",
            "Guests {place} will remember {x}.",
        ),
    ),
    PromptKind(
        name="band name",
        category=NAMING,
        ask=(
            "Suggest a name for a {style} band with {members}.",
            "What should we call our {style} band with {members}?",
            "Name my {style} band with {members}.",
            "We are a {style} band with {members} and need a name.",
            "Give our {style} band with {members} a name.",
        ),
        slots={
            "style": words("rock, jazz, folk, punk, country"),
            "members": words(
                "three sisters, two drummers, four friends, five singers, an old violin"
            ),
        },
        contents={
            "x": words(
                "The Velvet Lamps, Midnight Tram, Paper Wolves, The Lost Umbrellas, Static Garden, "
                "Seven Crows, Loud Neighbours, The Tin Hearts, Broken Compass, River Ghosts, "
                "The Sunday Kings, Electric Pears, Glass Harbour, Wild Thimbles, The Late Trains, "
                "Silver Moths, Dust and Honey, The Round Table, Quiet Riot Club, Hello Thunder"
            )
        },
        lead=(
            "[How about|What about] {x}?",
            "[Call|Name] [it|your band] {x}.",
            "I would [call|name] it {x}.",
            "{x} [is|would be] a [good|great|bold] name for a {style} band.",
            "My [choice|pick] for a band with {members} is {x}.",
        ),
        tails=(
            "It fits {style} music with {members}.",
            "It will look [great|good] on a [poster|shirt|ticket].",
            "Fans of {style} music will [remember|love] it.",
        ),
    ),
    PromptKind(
        name="random number",
        category=NAMING,
        ask=(
            "Pick a [random|lucky] number between {low} and {high}.",
            "Give me a random number from {low} to {high}.",
            "Choose any number between {low} and {high}.",
            "I need a random number from {low} to {high}.",
            "Say any number from {low} to {high}.",
        ),
        slots={"low": words("1, 10, 20, 30"), "high": words("60, 70, 80, 90, 100")},
        contents={
            "x": words(
                "47, 37, 42, 53, 58, 34, 51, 39, 45, 56, 33, 49, 31, 54, 38, 44, 57, 35, 52, 46"
            )
        },
        lead=(
            "[My number is|I pick|I choose|Let us say] {x}.",
            "{x} [is|would be] my [number|choice|pick].",
            "[How about|What about] {x}?",
            "Between {low} and {high} I [pick|choose] {x}.",
        ),
        tails=(
            "It lies between {low} and {high}.",
            "I [chose|picked] it [at random|without thinking].",
        ),
    ),
    PromptKind(
        name="random colour",
        category=NAMING,
        ask=(
            "Pick a colour for my {thing} in the {room}.",
            "Which colour should the {thing} in the {room} have?",
            "Choose a random colour for a {thing} in the {room}.",
            "I am painting a {thing} in the {room}. Name one colour.",
            "Tell me a colour for the {thing} in my {room}.",
        ),
        slots={
            "thing": words("door, chair, shelf, table, wall, lamp"),
            "room": words("kitchen, bedroom, hall, office, bathroom"),
        },
        contents={
            "x": words(
                "blue, teal, yellow, mint green, coral, dark red, lilac, orange, ivory, navy, "
                "olive, "
                "pink, silver, turquoise, brown, peach, black, gold, violet, grey"
            )
        },
        lead=(
            "[How about|What about] {x}?",
            "[I would pick|I would choose|Try] {x}.",
            "[Paint|Make] the {thing} {x}.",
            "{X} [is|would be] a [good|fine|lovely] colour for a {thing}.",
            "My [choice|pick] for the {room} is {x}.",
        ),
        tails=(
            "It [looks|feels] [fresh|calm|warm] in a {room}.",
            "A {x} {thing} will [cheer up|brighten] the {room}.",
            "It goes well with [wood|white walls|plants].",
        ),
    ),
    PromptKind(
        name="random animal",
        category=NAMING,
        ask=(
            "Pick a random animal for {a_style} drawing on my {item}.",
            "Which animal should I draw in {a_style} style on my {item}?",
            "Choose an animal for {a_style} picture on a {item}.",
            "I want {a_style} drawing of an animal on my {item}. Name one.",
            "Tell me an animal for {a_style} drawing on a {item}.",
        ),
        slots={
            "style": words("funny, simple, elegant, cute, scary"),
            "item": words("mug, card, bag, notebook, shirt, poster"),
        },
        contents={
            "x": words(
                "fox, owl, whale, hedgehog, tiger, penguin, giraffe, octopus, rabbit, bear, snail, "
                "elephant, frog, wolf, turtle, parrot, badger, camel, otter, bat"
            )
        },
        lead=(
            "[How about|What about] {a_x}?",
            "I would [pick|choose] {a_x}.",
            "[Draw|Try] {a_x}.",
            "{A_x} [is|would be] a [good|fine|lovely] choice for {a_style} drawing.",
            "My [choice|pick] for the {item} is {a_x}.",
        ),
        tails=(
            "It is [easy|fun] to draw on a {item}.",
            "{A_x} can look very {style}.",
            "It will look {style} on your {item}.",
        ),
    ),
    PromptKind(
        name="passphrase",
        category=NAMING,
        ask=(
            "Make up a three-word passphrase for my {device} at {place}.",
            "I need a three-word passphrase for the {device} at {place}.",
            "Suggest a passphrase of three words for a {device} at {place}.",
            "Invent a three-word passphrase for the {device} I use at {place}.",
            "Give me three words as a passphrase for my {device} at {place}.",
        ),
        slots={
            "device": words("laptop, phone, printer, tablet, router, safe"),
            "place": words("work, home, school, the club, the shop"),
        },
        contents={
            "x": words(
                "purple, silent, frozen, golden, hollow, rapid, gentle, crooked, salty, "
                "paper, windy, copper, lazy, secret, bitter"
            ),
            "y": words(
                "tiger, ladder, candle, river, pickle, rocket, window, carrot, anchor, "
                "violin, pebble, lantern, button, meadow, basket"
            ),
            "z": words(
                "jumps, sings, waits, melts, spins, sleeps, travels, whistles, falls, "
                "grows, dances, hides, floats, shines, laughs"
            ),
        },
        lead=(
            "[How about|What about] {x}-{y}-{z}?",
            "[Use|Try] {x}-{y}-{z} for your {device}.",
            "A good passphrase for the {device} is {x}-{y}-{z}.",
            "My [suggestion|choice] is {x}-{y}-{z}.",
        ),
        tails=(
            "It is easy to remember at {place}.",
            "Nobody at {place} will guess it.",
            "Keep it [secret|safe] and do not [write it down|share it].",
        ),
    ),
)
