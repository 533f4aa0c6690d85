"""The parameters of the llamafile loader: the common ones, what only an executable offers, and which executable."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from webui.loaders.llama_parameters import LlamaServerParameters
from webui.loaders.parameters import Control, Group


class LlamafileParameters(LlamaServerParameters):
    """Parameters a program does not have are left out of its command line, and that is said in the notes."""

    executable: Annotated[
        str,
        Control(
            "Executable",
            "Path of a llamafile or llama-server program. Empty looks into the model itself, the app's bin folder and "
            "the search path. It runs with your rights: it is taken from your own settings only, never from a request "
            "to the API.",
            group=Group.BASIC,
            section="Program",
            local=True,
        ),
    ] = ""
    generation: Annotated[
        Literal["auto", "v2"],
        Control(
            "Server generation",
            "llamafile 0.9 has two servers. auto takes the one with all samplers; v2 is its newer and smaller one.",
            section="Program",
        ),
    ] = "auto"
    gpu: Annotated[
        Literal["auto", "nvidia", "amd", "apple", "disable"],
        Control(
            "GPU kind", "Which kind of GPU a llamafile looks for. llama-server has no such choice.", section="Devices"
        ),
    ] = "auto"
    device: Annotated[
        str,
        Control(
            "Device list",
            "Devices to use, as the program names them, separated by commas (CUDA0,CUDA1); none for the CPU.",
            section="Devices",
        ),
    ] = ""
    control_vector: Annotated[
        str,
        Control(
            "Control vector",
            "Path of a control vector that steers the model. Empty for none.",
            section="Adapters",
            local=True,
        ),
    ] = ""
    control_vector_scale: Annotated[
        float,
        Field(ge=-10, le=10),
        Control("Control vector scale", "How strongly it steers.", section="Adapters", step=0.05),
    ] = 1.0
