"""What to do when an installation fails: the part of the table beneath `SetupFailed`."""

from __future__ import annotations

from collections.abc import Mapping

from webui.remedies.remedy import Action, Remedy

_AGAIN = "Run the same again, by its button or its command: what is complete is kept, and it goes on from there."
_FOLDER = (
    "Without network access, put the wheels into a folder, on another machine with `python3 -m pip download`, and "
    "install from there: `python3 app.py setup NAME --wheels FOLDER`, or set `setup.wheels`."
)

INSTALLING: Mapping[str, Remedy] = {
    "setup_failed": Remedy(
        "An installation or a download did not finish",
        "Something stopped it: the network, the disk, or a program it needs; the last lines of its output say which.",
        (
            _AGAIN,
            "Free disk space if the lines speak of it: a backend with GPU support takes several GB.",
            _FOLDER,
            "`python3 app.py setup --check` tells what is installed and what is not.",
        ),
        "Run the same command again: it continues where it stopped.",
        (Action.REPAIR, Action.SEE_LOG),
    ),
    "no_space": Remedy(
        "The disk has too little room",
        "The packages, and the room they take while they are unpacked, do not fit on the disk of the environment.",
        (
            "Free some space: old models and pip's cache (`python3 -m pip cache purge`) are the usual candidates.",
            "`python3 app.py setup NAME --plan` says how much it takes and how much is free.",
            _AGAIN,
        ),
        "Free some disk space, then run it again.",
        (Action.REPAIR,),
    ),
    "no_network": Remedy(
        "The package index cannot be reached",
        "There is no connection to the place where the packages are fetched from, or a proxy stands in between.",
        (
            "Check the network connection, and behind a proxy its settings: `HTTPS_PROXY`, or pip's configuration.",
            _AGAIN,
            _FOLDER,
        ),
        "Check the network, then run it again; offline, install from a folder of wheels.",
        (Action.REPAIR, Action.SEE_LOG),
    ),
    "damaged_download": Remedy(
        "A downloaded file is not the expected one",
        "A package arrived changed or cut short; nothing of it was installed.",
        (
            _AGAIN,
            "If it happens again, a proxy or the package index on the way changes files: use another network, or a "
            "folder of wheels from a machine where it works.",
            "A damaged file may lie in pip's cache: `python3 -m pip cache purge` empties it.",
        ),
        "Run it again; if it happens again, something on the way changes files.",
        (Action.REPAIR, Action.SEE_LOG),
    ),
    "no_wheel": Remedy(
        "There is no build for this machine",
        "Neither the package index nor the folder of wheels has a build for this Python, this system and this GPU.",
        (
            "`python3 app.py setup NAME --plan` says which build was looked for, and where.",
            "Builds for GPUs come from an index of their makers: name its address in `setup.indexes`.",
            "Use a released 64-bit Python that the build is made for, mostly not the very newest.",
            "Choose another **Loader** on the **Model** tab: most files can be opened by several.",
        ),
        "Look at `python3 app.py setup NAME --plan`: it says which build was looked for.",
        (Action.OTHER_LOADER,),
    ),
    "no_compiler": Remedy(
        "A compiler is missing",
        "The package has no ready build for this machine and has to be compiled, for which a tool is missing.",
        (
            "Install what the message names: on Debian and Ubuntu the package build-essential, on Fedora gcc-c++, on "
            "macOS Xcode's command line tools, on Windows the Visual Studio Build Tools with C++.",
            "For a GPU its own tools are needed as well, such as NVIDIA's CUDA toolkit.",
            "Or take a backend that comes ready made: its card on the **Backend** tab has **Install** as well.",
        ),
        "Install a C and C++ compiler, then run it again.",
        (Action.INSTALL, Action.OTHER_LOADER),
    ),
    "compilation_failed": Remedy(
        "A package could not be compiled",
        "The compiler stopped with an error; its own lines are in the log.",
        (
            "Look at the last lines of the log: they name a missing tool or header, or that memory ran out.",
            "With little memory, let fewer files be compiled at once: set `CMAKE_BUILD_PARALLEL_LEVEL` to 1.",
            "If `CMAKE_ARGS` is set, try it without: then it is compiled for the processor.",
            _AGAIN,
        ),
        "The compiler's own lines are in the log.",
        (Action.SEE_LOG, Action.OTHER_LOADER),
    ),
    "package_conflict": Remedy(
        "Packages exclude each other",
        "Two packages ask for versions of a third that no single one satisfies, mostly since something else was "
        "installed into the app's environment.",
        (
            "`python3 app.py setup NAME --repair` puts back the versions that belong together.",
            "Remove the `.venv` folder beside app.py and start the app: it is made anew, models and chats stay.",
        ),
        "Repair it: `python3 app.py setup NAME --repair`",
        (Action.REPAIR,),
    ),
    "not_permitted": Remedy(
        "The environment cannot be written to",
        "The folder of the Python environment belongs to somebody else, or its disk is read-only.",
        (
            "Start the app without `--no-setup`: it then has an environment of its own beside it.",
            "Or give yourself the folder that the message names, or start from a virtual environment of your own. "
            "Administrator rights are not needed.",
        ),
        "Check who owns the folder that is named.",
        (Action.RUN_CHECKS,),
    ),
    "unsuited_python": Remedy(
        "This Python does not suit",
        "The package is made for other versions of Python than the one the app runs with, or the system keeps this "
        "Python for itself.",
        (
            "Install a Python of the versions that the message names, remove the `.venv` folder beside app.py, and "
            "start the app with it.",
            "Choose another **Loader** on the **Model** tab meanwhile.",
        ),
        "Start the app with one of the Python versions that are named.",
        (Action.OTHER_LOADER,),
    ),
    "pip_missing": Remedy(
        "This Python has no pip",
        "Packages are installed by pip, and the Python that the app runs with does not have it.",
        (
            "Install it with the same Python: `python3 -m ensurepip`; on Debian and Ubuntu the package python3-pip.",
            "Or start the app without `--no-setup`: its own environment has pip.",
        ),
        "Install pip: `python3 -m ensurepip`",
        (Action.RUN_CHECKS,),
    ),
    "validation_failed": Remedy(
        "The new version does not work here",
        "It was installed and could not load a tiny model and write a word with it. Where there was a version before, "
        "it has been put back.",
        (
            "The evidence holds the engine's own last words: a missing library or a driver too old is the usual cause.",
            "`python3 app.py setup NAME --plan` says which build was taken for this machine, and why.",
            "What was there before can be used as it was; `python3 app.py setup NAME --check` shows the state.",
        ),
        "The version before, where there was one, is back; the evidence says what went wrong.",
        (Action.SEE_LOG, Action.OTHER_LOADER),
    ),
}
