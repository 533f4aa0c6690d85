"""What a support bundle must not hold, in the forms in which it turns up."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from webui.diagnostics.redaction import SECRET, USER, WRITTEN, Private, Redactor, looks_secret

KNOWN = Private(
    folders=(("/home/marguerite", "~"), ("/home/marguerite/models", "<models>"), (r"C:\Users\Mar Guerite", "~")),
    users=("marguerite", "llama", "root"),
    hosts=("wohnzimmer", "wohnzimmer.example"),
    secrets=("correct horse/battery", "abc", "xyzzy-1234"),
    written=("Where did I leave my umbrella?\nshort\n\tIt is “raining” in Göteborg\\now",),
    spared=("llama", "llama-cpp-python"),
)


ACCENTED = Private(
    folders=(("/home/jörg.weiß", "~"), ("/home/jörg.weiß/Meine Modelle", "<models>")),
    users=("jörg.weiß",),
    secrets=("Päss wort/&9",),
)


def redacted(text: str, *shown: str) -> str:
    return Redactor(KNOWN, shown).text(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/marguerite/models/a.gguf", "<models>/a.gguf"),
        ("file:///home/marguerite/notes.txt", "file://~/notes.txt"),
        ("in '/HOME/Marguerite'", "in '~'"),
        ("/home/margueritesson/x", "/home/<user>/x"),
        ("/mnt/home/marguerite/x", "/mnt/home/<user>/x"),
        (r"C:\Users\Mar Guerite\models", r"~\models"),
        (json.dumps(r"C:\Users\Mar Guerite\models"), r'"~\\models"'),
        ("C:/Users/Mar%20Guerite/models", "~/models"),
        ("/Users/somebody/Library", "/Users/<user>/Library"),
        (r"D:\Users\somebody\AppData", r"D:\Users\<user>\AppData"),
    ],
)
def test_folders_of_a_person(text: str, expected: str) -> None:
    assert redacted(text) == expected


@pytest.mark.parametrize(
    "write",
    [
        str,
        quote,
        quote_plus,
        lambda text: quote(text, safe=""),
        lambda text: re.sub("%..", lambda found: found[0].lower(), quote(text, safe="")),
        lambda text: quote(unicodedata.normalize("NFD", text)),
        lambda text: unicodedata.normalize("NFD", text),
        lambda text: json.dumps(text)[1:-1],
        lambda text: json.dumps(text.replace("/", "\\"))[1:-1],
    ],
    ids=range(9),
)
def test_names_with_accents_in_whichever_way_they_are_written(write: Callable[[str], str]) -> None:
    redactor = Redactor(ACCENTED)
    models, home = (
        redactor.text(f"in {write(path)}!") for path in ("/home/jörg.weiß/Meine Modelle", "/home/jörg.weiß")
    )
    assert (models.replace("\\", ""), home.replace("\\", "")) == ("in <models>!", "in ~!")
    assert redactor.text(f"by {write('jörg.weiß')} and JÖRG.WEISS") == "by <user> and <user>"
    if "\\" not in write("/"):
        assert redactor.text(f"is {write('Päss wort/&9')}.") == "is <secret>."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("login of Marguerite at wohnzimmer", "login of <user> at <host>"),
        ("marguerite_old on wohnzimmer.example:7860", "<user>_old on <host>:7860"),
        ("a llama model of llama-cpp-python", "a llama model of llama-cpp-python"),
        ("/srv/home/llama/x", "/srv/home/<user>/x"),
        ("the root of the tree", "the root of the tree"),
        ("write to anna.b@example.org", "write to <email>"),
        ("from 192.168.7.31 to 127.0.0.1:7860", "from <address> to 127.0.0.1:7860"),
        ("fe80:0:0:0:1c2:3:4:5 at 12:30:45", "<address> at 12:30:45"),
        ("driver 31.0.101.5768, version 0.3.36", "driver 31.0.101.5768, version 0.3.36"),
    ],
)
def test_names_and_addresses(text: str, expected: str) -> None:
    assert redacted(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "password is correct horse/battery",
        "GET /?q=correct%20horse%2Fbattery",
        "Authorization: Bearer zzz.yyy-xxx",
        "authorization: Basic dXNlcjpwYXNz",
        "HF_TOKEN=aaaabbbbcccc",
        'export OPENAI_API_KEY="aaaabbbbcccc"',
        '{"api_key": "aaaabbbbcccc"}',
        json.dumps(json.dumps({"password": "aaaabbbbcccc"})),
        "token hf_abcdefghijklmnopqrstuv",
        "key sk-abcdefghijklmnopqrstuv",
        "ghp_abcdefghijklmnopqrstuvwxyz01",
        "AKIAABCDEFGHIJKLMNOP",
        "eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.SflKxwRJSMeKKF2QT4",
        "https://anna:aaaabbbbcccc@example.org/x",
        "https://example.org/x?token=aaaabbbbcccc&b=1",
        "-----BEGIN PRIVATE KEY-----\naaaabbbbcccc\n-----END PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\naaaabbbbcccc",
    ],
)
def test_secrets_of_every_shape(text: str) -> None:
    clean = redacted(text)
    assert SECRET in clean
    for secret in ("horse", "aaaabbbbcccc", "zzz.yyy", "dXNlcj", "abcdefghijkl", "ABCDEFGHIJ", "SflKxw"):
        assert secret not in clean
    assert redacted(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        "print_info: BOS token        = 1 '<s>'",
        "max_tokens=512, prompt_tokens: 33",
        "{{ bos_token }}{% if add_generation_prompt %}",
        "0.3.36 of llama-cpp-python on Linux-6.1, /usr/lib/libcuda.so.1",
        "context 8,192 at 12.5 tokens/s",
        "the basic settings, Basic controls",
        "abc",
    ],
)
def test_what_is_nobodys_secret_stays(text: str) -> None:
    assert redacted(text) == text


def test_lines_of_conversations_also_as_json_writes_them() -> None:
    line = "It is “raining” in Göteborg\\now"
    for text in (f"log: {line}!", json.dumps({"said": line}), json.dumps({"said": line}, ensure_ascii=False)):
        assert "Göteborg" not in redacted(text) and "raining" not in redacted(text)
        assert WRITTEN in redacted(text)
    assert redacted("Where did I leave my umbrella?") == WRITTEN
    assert redacted("this is short") == "this is short"


def test_values_hide_what_is_called_a_secret_and_keep_their_form() -> None:
    content = {
        "server.api_key": "plainword",
        "/home/marguerite/models/a.gguf": {"bos_token": "<s>", "sizes": [1, 2.5, None, True]},
        "environment": {"HF_TOKEN": "plainword", "empty_TOKEN": ""},
    }
    assert Redactor(KNOWN).value(content) == {
        "server.api_key": SECRET,
        "<models>/a.gguf": {"bos_token": "<s>", "sizes": [1, 2.5, None, True]},
        "environment": {"HF_TOKEN": SECRET, "empty_TOKEN": ""},
    }


def test_one_card_has_one_name() -> None:
    first, second = ("GPU-aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "GPU-11111111-2222-3333-4444-555555555555")
    assert (
        Redactor(KNOWN).text(f"{first} {second} {first.upper().replace('GPU', 'GPU')}") == "GPU-0001 GPU-0002 GPU-0001"
    )


def test_what_is_asked_for_is_shown() -> None:
    text = "/home/marguerite/x of marguerite@wohnzimmer: password=xyzzy-1234, Where did I leave my umbrella?"
    assert redacted(text, "paths", "names", "keys", "chats") == text
    assert redacted(text, "paths").startswith(f"/home/{USER}/x")
    assert "xyzzy-1234" in redacted(text, "keys")
    assert "umbrella" in redacted(text, "chats")


def test_names_of_secrets() -> None:
    assert all(map(looks_secret, ("HF_TOKEN", "OPENAI_API_KEY", "GGUF_SERVER_AUTH_PASSWORD", "DB_PASS")))
    assert not any(map(looks_secret, ("PATH", "HOME", "bos_token", "max_tokens", "KEYBOARD")))
