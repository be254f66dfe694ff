"""Kinds of prompts that ask for a story of three to five sentences."""

from __future__ import annotations

from baco.tiny.kinds.model import STORIES, PromptKind, SlotValues, words

_PLANS = {
    "three": ("open", "event", "end"),
    "four": ("open", "event", "turn", "end"),
    "five": ("open", "event", "turn", "help", "end"),
}
_WHEN = "[Early one morning|One rainy evening|Late one night|On a warm afternoon|One winter day]"


def _story(
    name: str,
    who: str,
    where: str,
    things: str,
    ends: tuple[str, ...],
    event: tuple[str, ...],
    turn: tuple[str, ...],
    help_: tuple[str, ...],
    open_: tuple[str, ...],
) -> PromptKind:
    contents: dict[str, SlotValues] = {"thing": words(things), "end": ends}
    return PromptKind(
        name=name,
        category=STORIES,
        ask=(
            f"Tell me a story in {{count}} sentences about {{a_who}} {where}.",
            f"Write a story of {{count}} sentences about {{a_who}} {where}.",
            f"Tell a tale about {{a_who}} {where} in {{count}} sentences.",
            f"I would like a story about {{a_who}} {where}. Use {{count}} sentences.",
            f"In {{count}} sentences, tell me a story about {{a_who}} {where}.",
        ),
        slots={"count": tuple(_PLANS), "who": words(who)},
        contents=contents,
        roles={
            "open": open_,
            "event": event,
            "turn": turn,
            "help": help_,
            "end": ("[In the end|At last|Finally], {end}.", "[By nightfall|From then on], {end}."),
        },
        plans=_PLANS,
    )


STORY_KINDS = (
    _story(
        "dog story",
        "girl, boy, farmer, painter, widow",
        "and a dog",
        "silver whistle, red boot, lost kitten, old map, wooden box, gold ring, blue kite, "
        "paper boat, tin soldier, broken violin, letter, lantern",
        (
            "the {who} hugged the dog",
            "they went home together",
            "the dog fell asleep by the fire",
            "both of them were heroes",
            "the treasure hung above the fireplace",
            "the whole village cheered",
            "nobody ever called the dog lazy again",
            "they shared a big sausage",
        ),
        (
            "The dog [found|dug up] {a_thing} under a [tree|bench|bridge].",
            "Suddenly the dog [came back|ran up] with {a_thing}.",
        ),
        (
            "The {who} [did not know|wondered] whose {thing} it was.",
            "The {thing} belonged to [a neighbour|the mayor|a lonely sailor].",
        ),
        (
            "The dog [barked|pulled|waited] until the {who} understood.",
            "Together they [carried|took] the {thing} to the [market|harbour|church].",
        ),
        (
            f"{_WHEN}, {{a_who}} went for a walk with a dog.",
            "There was once {a_who} who had a [brave|small|clever] dog.",
        ),
    ),
    _story(
        "lighthouse story",
        "keeper, sailor, girl, captain, gull",
        "at a lighthouse",
        "bottle, green light, strange boat, whale, drifting trunk, white feather, singing seal, "
        "storm, sunken bell, ghost ship, raft, message",
        (
            "the lamp burned brighter than ever",
            "the {who} wrote it all down",
            "every ship came home safely",
            "the sea was calm again",
            "the {who} never felt lonely again",
            "they all drank tea in the tower",
            "it was never seen again",
            "the {who} painted the door blue",
        ),
        (
            "{A_thing} [appeared|showed up] [near the rocks|in the fog|on the waves].",
            "The {who} [saw|noticed] {a_thing} [near the rocks|in the fog|on the waves].",
        ),
        (
            "The {who} [was afraid at first|could not believe it].",
            "[No one|Nobody] had ever seen {a_thing} like that.",
        ),
        (
            "A [fisherman|child|cook] from the village came to help.",
            "The {who} [ran|climbed] down the [long|steep] stairs.",
        ),
        (
            f"{_WHEN}, {{a_who}} stood at the lighthouse.",
            "[On a lonely coast|Far away], {a_who} looked after a lighthouse.",
        ),
    ),
    _story(
        "robot story",
        "robot, teacher, gardener, child, cook",
        "in a garden",
        "tulip, talking snail, buried clock, glass seed, tiny door, sleeping cat, giant pumpkin, "
        "rusty key, bird nest, silver spoon, music box, lemon tree",
        (
            "the garden was full of music",
            "the {who} learned to wait",
            "the find became famous",
            "the {who} smiled for the first time",
            "the rain began to fall",
            "the {who} moved into the garden shed",
            "all the neighbours came to look",
            "the {who} made up a song about it",
        ),
        (
            "Between the [roses|beans|herbs] the {who} found {a_thing}.",
            "The {who} [almost stepped|tripped] on {a_thing}.",
        ),
        (
            "The {thing} [began to shine|made a soft sound|was warm].",
            "The {who} had never [seen|touched] {a_thing} before.",
        ),
        (
            "[A bee|A crow|An old mole] told the {who} what to do.",
            "The {who} [watered|cleaned|guarded] the {thing} for days.",
        ),
        (
            f"{_WHEN}, {{a_who}} was working in the garden.",
            "[In a quiet town|Behind a high wall], {a_who} had a garden.",
        ),
    ),
    _story(
        "train story",
        "student, soldier, nurse, thief, singer",
        "on the last train",
        "red suitcase, black umbrella, birdcage, diary, guitar, sleeping baby, golden ticket, "
        "basket of eggs, photograph, chess set, bunch of roses, telescope",
        (
            "the train arrived at dawn",
            "the {who} missed the stop on purpose",
            "the lost thing found its owner",
            "everyone in the carriage sang",
            "the {who} fell in love",
            "the {who} got off with a smile",
            "nobody spoke about it again",
            "they became good friends",
        ),
        (
            "On the next seat lay {a_thing}.",
            "A [stranger|child|woman] with {a_thing} [sat down|got on].",
        ),
        (
            "The {who} [looked|stared] at the {thing} for a long time.",
            "[Nobody|No one] knew where the {thing} came from.",
        ),
        (
            "The conductor [smiled|winked] and said nothing.",
            "Then the lights went out [for a minute|in the tunnel].",
        ),
        (
            f"{_WHEN}, {{a_who}} took the last train.",
            "The last train was [empty|late|cold] when {a_who} got on.",
        ),
    ),
    _story(
        "dragon story",
        "baker, princess, shepherd, knight, tailor",
        "and a dragon",
        "honey cake, crown, warm coat, song, silver bell, pot of soup, riddle, feather bed, "
        "wooden spoon, love letter, apple, mirror",
        (
            "the dragon flew to the castle",
            "the {who} became king of the valley",
            "the dragon cried with joy",
            "they opened a shop together",
            "the village was safe",
            "the {who} learned to fly",
            "the dragon never breathed fire again",
            "they both laughed until sunrise",
        ),
        (
            "The dragon [asked for|wanted] {a_thing}.",
            "The {who} [offered|brought] the dragon {a_thing}.",
        ),
        (
            "The dragon [was only hungry|had a bad cold|was very lonely].",
            "The {who} [shook with fear|did not run away].",
        ),
        (
            "The {thing} [worked|helped] [at once|like magic].",
            "They talked [all night|for hours] about the {thing}.",
        ),
        (
            f"{_WHEN}, a dragon came to {{a_who}}.",
            "[Long ago|Once upon a time], {a_who} met a dragon.",
        ),
    ),
    _story(
        "market story",
        "grandmother, juggler, merchant, orphan, mayor",
        "at the market",
        "magic bean, stolen watch, blue parrot, empty jar, huge melon, velvet hat, coin, carpet, "
        "loaf of bread, clever monkey, lost child, cracked vase",
        (
            "the {who} went home with a full basket",
            "the whole market laughed",
            "it was sold twice",
            "the {who} gave everything away",
            "the sun came out",
            "the {who} kept the secret",
            "they shared the money",
            "it brought good luck",
        ),
        (
            "[At a small stall|Next to the well] the {who} [found|discovered] {a_thing}.",
            "[A man|An old woman] [sold|handed] the {who} {a_thing}.",
        ),
        (
            "The {thing} was not what it seemed.",
            "[Soon|At once] [everybody|everyone] wanted the {thing}.",
        ),
        (
            "The {who} [asked|begged] [a baker|a guard|a stranger] for help.",
            "The {who} had to [hide|explain|think fast].",
        ),
        (
            f"{_WHEN}, {{a_who}} went to the market.",
            "[It was market day|The market was busy] and {a_who} was in a hurry.",
        ),
    ),
    _story(
        "moon story",
        "astronaut, cat, poet, inventor, farmer",
        "who flew to the moon",
        "teacup, silver flower, old flag, sleeping giant, tiny house, lost star, mirror lake, "
        "footprint, radio, piano, rabbit, post office",
        (
            "the {who} came home again",
            "the moon had a new friend",
            "the {who} stayed for a hundred years",
            "the dust glowed all night",
            "the {who} sent us a postcard",
            "the stars sang a song",
            "nobody on Earth believed it",
            "the {who} took a stone along",
        ),
        (
            "On the moon there was {a_thing}.",
            "[Behind a crater|In the dust] the {who} [found|saw] {a_thing}.",
        ),
        (
            "The {thing} was [cold and quiet|full of dust|older than the Earth].",
            "It was so [quiet|dark] that the {who} [sang|whispered].",
        ),
        (
            "The {who} [waited|slept] beside the {thing}.",
            "Far away the Earth [shone|turned] like a [blue marble|lamp].",
        ),
        (
            f"{_WHEN}, {{a_who}} flew to the moon.",
            "[With a paper rocket|In a small rocket], {a_who} flew to the moon.",
        ),
    ),
)
