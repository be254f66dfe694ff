"""English function words: a closed class, so a list does what a parser would.

Determiners, pronouns, prepositions, conjunctions, auxiliaries, particles, and the clitics that
tokenizers split off. Paper: §3.1 (-FC).
"""

from __future__ import annotations

FUNCTION_WORDS: frozenset[str] = frozenset(
    """
    a an the this that these those such each every either neither any some all both no another
    other half few many much more most less least several enough own same

    i me my mine myself we us our ours ourselves you your yours yourself yourselves
    he him his himself she her hers herself it its itself they them their theirs themselves
    one ones oneself who whom whose which what whatever whichever whoever whomever
    someone somebody something anyone anybody anything everyone everybody everything
    nobody nothing none

    about above across after against along alongside amid among amongst around as at atop before
    behind below beneath beside besides between beyond by despite down during except for from in
    inside into like near of off on onto opposite out outside over past per round since through
    throughout till to toward towards under underneath unlike until up upon via with within
    without

    and but or nor so yet if unless because although though while whereas whether than lest once
    when whenever where wherever why how

    am is are was were be been being have has had having do does did doing done
    will would shall should can could may might must ought need dare used

    not n't 't 's 're 've 'll 'd 'm isn't aren't wasn't weren't don't doesn't didn't won't
    wouldn't can't cannot couldn't shouldn't mustn't haven't hasn't hadn't ain't
    i'm you're he's she's it's we're they're i've you've we've they've i'd you'd he'd she'd we'd
    they'd i'll you'll he'll she'll it'll we'll they'll that's there's let's

    there here then thus hence therefore however also too very just only even still again ever
    never now
    """.split()  # noqa: SIM905
)
