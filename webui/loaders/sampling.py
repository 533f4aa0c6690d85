"""The sampling parameters, which all loaders share: how the next token is chosen."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from webui.loaders.parameters import Control, Group, Parameters


class SamplingParameters(Parameters):
    """How the next token is chosen. Sources of the formulas are named in docs/parameters.md.

    The loaders declare which of these their engine has (`LoaderSpec.samplers`); the others are ignored and reported.
    """

    max_tokens: Annotated[
        int,
        Field(ge=-1, le=1_048_576),
        Control(
            "Reply length",
            "Most tokens of a reply. -1 goes on until the model stops or the context is full.",
            unit="tokens",
            group=Group.BASIC,
            section="Reply",
            step=16,
            suggested_max=8192,
        ),
    ] = 1024
    temperature: Annotated[
        float,
        Field(ge=0, le=5),
        Control(
            "Temperature",
            "0 always takes the likeliest token; higher is more varied.",
            group=Group.BASIC,
            section="Choice",
            step=0.05,
            suggested_max=2,
        ),
    ] = 0.7
    top_p: Annotated[
        float,
        Field(ge=0, le=1),
        Control(
            "Top-p",
            "Keeps the likeliest tokens that together reach this probability. 1 keeps all.",
            group=Group.BASIC,
            section="Choice",
            step=0.01,
        ),
    ] = 0.95
    top_k: Annotated[
        int,
        Field(ge=0, le=1_000_000),
        Control(
            "Top-k",
            "Keeps this many of the likeliest tokens. 0 keeps all.",
            group=Group.BASIC,
            section="Choice",
            step=1,
            suggested_max=200,
        ),
    ] = 40
    min_p: Annotated[
        float,
        Field(ge=0, le=1),
        Control(
            "Min-p",
            "Drops tokens less likely than this share of the likeliest one.",
            group=Group.BASIC,
            section="Choice",
            step=0.01,
        ),
    ] = 0.05
    typical_p: Annotated[
        float,
        Field(ge=0, le=1),
        Control(
            "Typical-p",
            "Keeps tokens whose surprise is near the expected one. 1 is off.",
            section="Choice",
            step=0.01,
        ),
    ] = 1.0
    repeat_penalty: Annotated[
        float,
        Field(ge=0, le=5),
        Control(
            "Repeat penalty",
            "Makes tokens that were used lately less likely. 1 is off.",
            group=Group.BASIC,
            section="Repetition",
            step=0.01,
            suggested_max=2,
        ),
    ] = 1.0
    repeat_last_n: Annotated[
        int,
        Field(ge=-1, le=1_048_576),
        Control(
            "Repeat window",
            "How many tokens back the penalties look. -1 is the whole context.",
            unit="tokens",
            section="Repetition",
            suggested_max=2048,
        ),
    ] = 64
    presence_penalty: Annotated[
        float,
        Field(ge=-2, le=2),
        Control(
            "Presence penalty",
            "Penalty for every token used before, once.",
            section="Repetition",
            step=0.05,
        ),
    ] = 0.0
    frequency_penalty: Annotated[
        float,
        Field(ge=-2, le=2),
        Control(
            "Frequency penalty",
            "Penalty that grows with each use of a token.",
            section="Repetition",
            step=0.05,
        ),
    ] = 0.0
    dry_multiplier: Annotated[
        float,
        Field(ge=0, le=10),
        Control(
            "DRY multiplier",
            "Strength of the penalty on repeated sequences. 0 is off.",
            section="Repetition",
            step=0.05,
        ),
    ] = 0.0
    dry_base: Annotated[
        float,
        Field(ge=1, le=10),
        Control(
            "DRY base",
            "How fast the DRY penalty grows with the length of the repetition.",
            section="Repetition",
            step=0.05,
        ),
    ] = 1.75
    dry_allowed_length: Annotated[
        int,
        Field(ge=0, le=1024),
        Control(
            "DRY allowed length",
            "Repetitions up to this length are free.",
            unit="tokens",
            section="Repetition",
        ),
    ] = 2
    xtc_probability: Annotated[
        float,
        Field(ge=0, le=1),
        Control(
            "XTC probability",
            "How often the likeliest tokens are left out for variety. 0 is off.",
            section="Variety",
            step=0.01,
        ),
    ] = 0.0
    xtc_threshold: Annotated[
        float,
        Field(ge=0, le=1),
        Control(
            "XTC threshold",
            "Tokens above this probability may be left out.",
            section="Variety",
            step=0.01,
        ),
    ] = 0.1
    dynatemp_range: Annotated[
        float,
        Field(ge=0, le=5),
        Control(
            "Dynamic temperature range",
            "Temperature varies by this much around its value. 0 is off.",
            section="Variety",
            step=0.05,
        ),
    ] = 0.0
    dynatemp_exponent: Annotated[
        float,
        Field(ge=0, le=10),
        Control(
            "Dynamic temperature exponent",
            "How the temperature follows the model's certainty.",
            section="Variety",
            step=0.05,
        ),
    ] = 1.0
    mirostat: Annotated[
        Literal["off", "v1", "v2"],
        Control(
            "Mirostat",
            "Holds the surprise of the text at a target instead of top-k and top-p.",
            section="Variety",
        ),
    ] = "off"
    mirostat_tau: Annotated[
        float,
        Field(ge=0, le=20),
        Control("Mirostat target", "The surprise that mirostat aims at.", section="Variety", step=0.1),
    ] = 5.0
    mirostat_eta: Annotated[
        float,
        Field(ge=0, le=1),
        Control("Mirostat rate", "How fast mirostat corrects itself.", section="Variety", step=0.01),
    ] = 0.1
    seed: Annotated[
        int,
        Field(ge=-1, le=4_294_967_295),
        Control(
            "Seed",
            "The same seed gives the same choice of tokens. -1 draws a new one each time.",
            section="Reply",
            step=1,
        ),
    ] = -1
    stop: Annotated[
        str,
        Control(
            "Stop strings",
            "The reply ends before any of these; one a line.",
            section="Reply",
            lines=2,
        ),
    ] = ""

    def stop_strings(self) -> tuple[str, ...]:
        """The stop strings, one a line, with `\\n` standing for a line break; empty lines do not count."""
        lines = (line.replace("\\n", "\n") for line in self.stop.split("\n"))
        return tuple(line for line in lines if line)
