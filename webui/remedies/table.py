"""The table: every code of `webui.errors`, in the order of its tree. Those of installing are a table of their own."""

from __future__ import annotations

from collections.abc import Mapping

from webui.remedies.installing import INSTALLING
from webui.remedies.remedy import Action, Remedy

_REPORT = "If it comes again, look at the log at the foot of the **Diagnostics** tab and report it with these lines."
_CHECKS = "Press **Run the checks** on the **Diagnostics** tab, or run `python3 app.py doctor`."
_OTHER_LOADER = (
    "Choose another **Loader** on the **Model** tab; the list beneath says which can open the file, and why."
)
_SMALLER_FILE = "Choose a smaller model, or the same one in a smaller quantisation (Q4_K_M instead of Q8_0, for one)."

REMEDIES: Mapping[str, Remedy] = {
    "application_error": Remedy(
        "Something unexpected",
        "The app met a fault that it has no name for; what it knows of it stands beneath the message.",
        (
            "Do the same again: nothing that was there before is lost.",
            "Start the app with `GGUF_DEBUG=1` and do it once more: the log then says where it happened.",
            _REPORT,
        ),
        "Do the same again; if it comes again, the log on the **Diagnostics** tab says where.",
        (Action.LOAD_AGAIN, Action.SEE_LOG),
    ),
    "installation_error": Remedy(
        "Something is not installed properly",
        "A part the app needs is absent or does not work, and which one is in the message.",
        (_CHECKS, "Follow the fix that stands beside each line that is not in order."),
        "Press **Run the checks** on the **Diagnostics** tab, or run: `python3 app.py doctor`",
        (Action.RUN_CHECKS,),
    ),
    "missing_package": Remedy(
        "A backend is not installed",
        "The file could be opened by a backend whose package or program is not on this machine.",
        (
            "Open the **Backend** tab and press **Install** on the backend's card, or run `python3 app.py setup NAME`.",
            "Load the model again: the backend is seen at once, without a restart.",
            "If it cannot be installed here, choose another **Loader** on the **Model** tab.",
        ),
        "Install the backend on the **Backend** tab, or with: `python3 app.py setup NAME`",
        (Action.INSTALL, Action.OTHER_LOADER),
    ),
    "broken_package": Remedy(
        "A backend is installed and does not start",
        "The backend's package is there and cannot be imported or started, mostly after an interrupted installation or "
        "an update of something it needs.",
        (
            "Open the **Backend** tab and press **Repair** on the backend's card, or run `python3 app.py setup NAME`.",
            "Load the model again.",
            "If it still does not start, the evidence names the library that is missing; until it is there, "
            "choose another **Loader** on the **Model** tab.",
        ),
        "Repair the backend on the **Backend** tab, or with: `python3 app.py setup NAME`",
        (Action.REPAIR, Action.OTHER_LOADER),
    ),
    "incompatible_driver": Remedy(
        "The GPU driver is too old",
        "The engine was built for a newer driver than the one that is installed, and cannot use the GPU.",
        (
            "Update the GPU's driver from its maker's page or the system's packages, and restart the machine.",
            "Until then, load on the CPU: set **GPU layers** to 0 on the **Model** tab, or switch off **Use the GPU** "
            "on the **Backend** tab.",
            "A backend with a build for another kind of device may work as it is: its card on the **Backend** tab says "
            "which devices it has here.",
        ),
        "Update the GPU driver, or run on the CPU.",
        (Action.ON_CPU, Action.OTHER_LOADER),
    ),
    **INSTALLING,
    "hardware_error": Remedy(
        "The machine cannot do it",
        "The machine lacks what was asked for, or stopped giving it; the message names the part.",
        (_CHECKS, "Load with less: a smaller **Context size**, fewer **GPU layers**, or a smaller file."),
        "Load with a smaller context, fewer GPU layers, or a smaller file.",
        (Action.SMALLER_CONTEXT, Action.FEWER_LAYERS, Action.RUN_CHECKS),
    ),
    "device_out_of_memory": Remedy(
        "The GPU's memory does not suffice",
        "Weights, cache and buffers together need more memory than the GPU has free.",
        (
            "With **Fall back** on (**Backend** tab), the app has already tried fewer layers, a smaller cache and the "
            "CPU; the steps beneath the message show how far it came.",
            "Close other programs that use the GPU (`nvidia-smi` lists them), and press **Load** again.",
            "Lower **GPU layers** on the **Model** tab, or lower **Context size**, whose cache takes the rest.",
            "Set **Key cache type** and **Value cache type** to q8_0: the cache is halved at almost no cost.",
            _SMALLER_FILE,
        ),
        "Use fewer GPU layers, a smaller context or a smaller quantisation.",
        (Action.FEWER_LAYERS, Action.SMALLER_CONTEXT, Action.ON_CPU),
    ),
    "host_out_of_memory": Remedy(
        "The machine's memory does not suffice",
        "The model needs more memory than the machine has free, or than the worker's limit or the container allows.",
        (
            "Close other programs, and press **Load** again: the top line shows what is free.",
            "Lower **Context size** on the **Model** tab.",
            "If `limits.worker_memory_mib` is set in settings.yaml, or the container has a limit, raise it.",
            "Keep **Memory-map the file** on, where the loader has it: weights are then read as they are needed.",
            "Choose a loader that opens the file as it is; transformers rewrites a GGUF's weights into a larger form.",
            _SMALLER_FILE,
        ),
        "Close other programs, use a smaller context or a smaller quantisation.",
        (Action.SMALLER_CONTEXT, Action.OTHER_LOADER, Action.OTHER_MODEL),
    ),
    "engine_crashed": Remedy(
        "The engine crashed",
        "The engine's process ended by itself, by a signal or with an exit status; the page and chats are untouched.",
        (
            "The app loads the model again by itself, after a native crash with safer flags, a few times at most.",
            "A reply that was being written keeps its text: press **Continue** on the **Chat** tab.",
            "If it was not loaded again, press **Load** on the **Model** tab.",
            _OTHER_LOADER,
            "Press **Repair** on the backend's card (**Backend** tab): a build for another processor crashes so.",
        ),
        "Load the model again; if it crashes again, choose another loader.",
        (Action.LOAD_AGAIN, Action.CONTINUE, Action.OTHER_LOADER, Action.REPAIR),
    ),
    "engine_garbled": Remedy(
        "The engine's answers make no sense",
        "The engine's process answered something that is not the language it shares with the app, and was ended.",
        (
            "Press **Load** on the **Model** tab: the next process begins anew.",
            "Press **Repair** on the backend's card (**Backend** tab), or run `python3 app.py setup NAME`.",
            _OTHER_LOADER,
        ),
        "Load the model again; if it happens again, repair the backend or choose another loader.",
        (Action.LOAD_AGAIN, Action.REPAIR, Action.OTHER_LOADER),
    ),
    "engine_hung": Remedy(
        "The engine is silent",
        "The engine's process is alive and said nothing for longer than its speed explains, so it was ended.",
        (
            "The app loads the model again by itself. A reply that was being written keeps its text: press "
            "**Continue** on the **Chat** tab.",
            "Lower **Threads** on the **Model** tab to the number of physical cores, or below if other programs work.",
            "On a very slow machine, raise `limits.silence_timeout_seconds` in settings.yaml.",
            _OTHER_LOADER,
        ),
        "Load the model again, with fewer threads or with another loader.",
        (Action.LOAD_AGAIN, Action.CONTINUE, Action.OTHER_LOADER),
    ),
    "port_taken": Remedy(
        "The port is taken",
        "Another program listens on the port that was to be used.",
        (
            "If the app is running already, open its page instead of starting it again.",
            "Start the app on another port with `--port`, or set `server.port` to 0, which takes any free one.",
            "If it was an engine that found its port taken, press **Load** again: each start takes another.",
        ),
        "Try again: each start takes another port.",
        (Action.LOAD_AGAIN,),
    ),
    "storage_failed": Remedy(
        "The disk does not take or give it",
        "A disk is full, read-only or unreadable, or no more files can be opened.",
        (
            "Free space on the disk the message names; deleting models that are not used gives the most.",
            "Check that the app's home can be written: `python3 app.py doctor` says so, and `GGUF_HOME` names another.",
            "If the file cannot be read, copy it to another disk: an error there means that the disk is failing.",
        ),
        "Make room on the disk, or check its permissions, and try again.",
        (Action.LOAD_AGAIN, Action.RUN_CHECKS),
    ),
    "timed_out": Remedy(
        "It took too long",
        "A step that has a bound, such as starting a worker or loading a model, took longer than the bound.",
        (
            "Try again: the second time much of the file lies in memory already.",
            "For a large file on a slow disk, raise `limits.load_timeout_seconds` in settings.yaml; for an engine that "
            "is slow to start, `limits.start_timeout_seconds`.",
            "Copy the file to a disk in this machine if it lies on the network.",
        ),
        "Try again; a larger time-out can be set in settings.yaml.",
        (Action.LOAD_AGAIN, Action.OTHER_LOADER),
    ),
    "model_error": Remedy(
        "This model does not work here",
        "Something about this file, or what was asked of it, does not go; the message says what.",
        ("`python3 app.py inspect FILE` shows what is in the file and which loaders can open it.", _OTHER_LOADER),
        "Choose another loader or another model on the **Model** tab.",
        (Action.OTHER_LOADER, Action.OTHER_MODEL),
    ),
    "model_not_found": Remedy(
        "The model is not there",
        "No file lies at that path, and no listed model has that name.",
        (
            "Press **Look again** on the **Model** tab, and choose the model from the list.",
            "Check the spelling of the path: `python3 app.py models` lists what is found.",
            "If your models lie elsewhere, set `models.directory` in settings.yaml, or start with `--models-dir`.",
        ),
        "Check the path, or choose a model on the **Model** tab.",
        (Action.OTHER_MODEL,),
    ),
    "corrupt_file": Remedy(
        "The file is damaged",
        "What the file says of itself and what is in it contradict each other: it is cut short, changed, or no model.",
        (
            "Compare the file's size with the one its source gives: a download that was cut short is the usual cause.",
            "Download it again. A page's link sometimes gives a web page or a pointer instead of the file.",
            "`python3 app.py inspect FILE` says whether the new one is whole.",
            "Other loaders do not help with a damaged file, and are not tried.",
        ),
        "Download the file again and compare its size with the source's.",
        (Action.OTHER_MODEL,),
    ),
    "unsupported_format": Remedy(
        "No loader opens this kind of file",
        "The file is of no known format, or of one that no loader here, or not the chosen one, can open.",
        (
            "Set **Loader** to auto on the **Model** tab: the list beneath says of each loader why it can or cannot.",
            "`python3 app.py inspect FILE` says what the file is.",
            "Most models are published as GGUF too: look for that form of it.",
        ),
        "GGUF files, transformers directories and llamafiles can be opened.",
        (Action.OTHER_LOADER, Action.OTHER_MODEL),
    ),
    "unsupported_architecture": Remedy(
        "The engine does not know this architecture",
        "The file is sound, and its model is of a kind that this engine's version cannot compute.",
        (
            _OTHER_LOADER,
            "Update the backend: press **Repair** on its card (**Backend** tab), or run `python3 app.py setup NAME`. "
            "New architectures need new engines.",
            "Choose a model of an older architecture.",
        ),
        "Choose another loader, or update it.",
        (Action.OTHER_LOADER, Action.REPAIR, Action.OTHER_MODEL),
    ),
    "unsupported_tokenizer": Remedy(
        "The engine does not know this tokenizer",
        "The engine cannot turn text into this model's tokens, and would answer nonsense.",
        (
            _OTHER_LOADER,
            "Loaders based on llama.cpp (xllamacpp, llamafile, llama-cpp-python) know the most tokenizers.",
        ),
        "Choose another loader.",
        (Action.OTHER_LOADER,),
    ),
    "unsupported_quantization": Remedy(
        "The engine does not know this quantisation",
        "The weights are packed in a way this engine cannot read.",
        (
            _OTHER_LOADER,
            "Choose the same model in another quantisation: every engine reads Q4_0 and Q8_0.",
        ),
        "Choose another loader, or a file with another quantisation.",
        (Action.OTHER_LOADER, Action.OTHER_MODEL),
    ),
    "engine_refused": Remedy(
        "The engine refused",
        "The engine said no, for a reason that is none of the others; its own lines are the evidence.",
        (
            "Read the last lines of the engine, folded beneath the message: most name the parameter or the tensor.",
            "Press **Defaults** on the **Model** tab if parameters were changed, then **Load**.",
            _OTHER_LOADER,
        ),
        "The engine's own lines say more; another loader may open the file.",
        (Action.OTHER_LOADER, Action.LOAD_AGAIN, Action.OTHER_MODEL),
    ),
    "context_too_long": Remedy(
        "The text does not fit the context",
        "Prompt and reply together have more tokens than the context the model was loaded with.",
        (
            "Shorten the message, or begin a new conversation with **New** on the **Chat** tab.",
            "Load the model with a larger **Context size** (**Model** tab); its facts say how much it was made for.",
            "Lower **Reply length**, which is kept free for the answer.",
        ),
        "Shorten the conversation, or load the model with a larger context.",
        (Action.LARGER_CONTEXT,),
    ),
    "not_loaded": Remedy(
        "No model is loaded",
        "Something was asked, and there is no model to answer it.",
        (
            "Choose a model on the **Model** tab and press **Load**.",
            "If a load failed, its reason stands there too.",
        ),
        "Load a model on the **Model** tab.",
        (Action.LOAD_AGAIN, Action.OTHER_MODEL),
    ),
    "template_failed": Remedy(
        "The chat template does not fit",
        "The template that turns a conversation into this model's prompt fails on these messages.",
        (
            "Clear **System prompt** on the **Chat** tab: some templates allow none.",
            "Begin a new conversation with **New**, in case it is the order of the messages that the template refuses.",
            "Choose another publication of the same model: the template is part of the file.",
        ),
        "Clear the system prompt or begin a new conversation; the template is part of the model's file.",
        (Action.OTHER_MODEL,),
    ),
    "configuration_error": Remedy(
        "Something of ours cannot be used",
        "A setting, a request or one of the app's own files is wrong; the message says which.",
        (_CHECKS, "Correct or move away the file that is named: the app makes a new one."),
        "Correct or move away what the message names.",
        (Action.RUN_CHECKS,),
    ),
    "invalid_setting": Remedy(
        "A value is not allowed",
        "A setting or parameter has a value outside its bounds, or a name that does not exist.",
        (
            "Correct the value: docs/settings.md and docs/parameters.md list what is allowed.",
            "Press **Defaults** on the **Model** tab to return to the values a loader starts with.",
            "The list beneath the settings on the **Backend** tab says from which file a value came.",
        ),
        "The allowed values are listed in docs/settings.md and docs/parameters.md.",
        (Action.RUN_CHECKS,),
    ),
    "invalid_request": Remedy(
        "The request cannot be understood",
        "A program or the page sent something that the server does not take.",
        ("Correct the field the message names: docs/api.md describes what is taken.", "Reload a page that is open."),
    ),
    "not_found": Remedy(
        "There is nothing of that name",
        "The preset, conversation or reply that was asked for does not exist, or exists no more.",
        ("Reload the page: another window may have deleted it.", "Choose from the list again."),
    ),
    "access_denied": Remedy(
        "Access denied",
        "The host name, the key or the login is missing or wrong, or it may only be done on the machine itself.",
        (
            "Send the key of `server.api_key` as `Authorization: Bearer KEY`, or log in with `server.auth`.",
            "If the server is reached by a name of its own, add the name to `server.allowed_hosts`.",
            "Files of the machine and code can only be named by who sits at it, in its settings.yaml.",
        ),
    ),
    "busy": Remedy(
        "Too much at once",
        "The queue is full, or a load or an installation is on that has to end first.",
        (
            "Wait a moment, and try again.",
            "Press **Cancel** on the **Model** tab to end the load that is on, or **Stop** on the **Chat** tab.",
            "For many clients, raise `limits.queue_length`, or load with more **Parallel jobs**.",
        ),
        "Try again in a moment.",
    ),
    "cancelled": Remedy(
        "It was cancelled",
        "Somebody asked for it to stop, so it did; nothing is wrong.",
        ("Start it again when you want it.", "A reply that was stopped goes on with **Continue** on the **Chat** tab."),
        "",
        (Action.LOAD_AGAIN, Action.CONTINUE),
    ),
}
