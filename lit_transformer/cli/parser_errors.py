"""The errors of jsonargparse in one short line.

jsonargparse describes each type that a value could have, and why it has none of them, on up to twenty lines.
"""

import re

CLASS = "the name of a class"
TYPES = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'bool'>": "true or false",
    "<class 'str'>": "text",
    "<class 'list'>": "a list",
    "<class 'dict'>": "a mapping",
    "dot import path string": CLASS,
}
"""How types are named to users."""
_KEY = re.compile(r'Parser key "([\w.]+)":')
_EXPECTED = re.compile(r"Expected an? (<class '[\w.]+'>|typing\.Literal\[(.*?)\]|dot import path string)")
_BOILERPLATE = re.compile(
    r"Does not validate|Subtypes: |Errors:|Given value|Got value|Not a valid subclass|Subclass types expect|"
    r"a class path |a dict |Import path .* does not correspond|Problem with given class_path|Expected an? "
)
"""Lines that list types, and those that repeat the value."""
_REQUIRED = re.compile(r"the following arguments are required: (\w+).*")
_NO_SETTING = "there is no setting"
_REWORDED = (
    (r"Option '(\w+)' is not accepted", rf"{_NO_SETTING} \1"),
    (r"did you mean --", "did you mean "),
)


def condensed(message: str) -> str:
    """Return the reason that a message of jsonargparse gives, in one line. Other messages are returned unchanged."""
    expected = dict(_EXPECTED.findall(message))
    if not expected:
        return message
    key = ".".join(dict.fromkeys(_KEY.findall(message)))
    reasons = dict.fromkeys(filter(None, (_reason(line, message, key) for line in message.splitlines())))
    if reasons:
        # A class that has not the setting is no reason if another one has it.
        kept = [reason for reason in reasons if not reason.startswith(_NO_SETTING)] or [*reasons]
        is_misplaced = kept[0].startswith(_NO_SETTING) and "did you mean" not in kept[0]
        order = "; on the command line, a class comes before its settings" if is_misplaced else ""
        return f"{key or _class_in(message)}: {'; '.join(kept)}{order}"
    allowed = {TYPES[name]: None for name in expected if name in TYPES}
    if "a number" in allowed:
        allowed.pop("a whole number", None)
    values = dict.fromkeys(value.strip(" '") for choices in expected.values() for value in choices.split(",") if value)
    words = " or ".join([*allowed, *([f"one of {', '.join(values)}"] if values else [])])
    given = re.findall(r"(?:Given|Got) value: (.*)", message)
    return f"{key} is {given[-1].replace('None', 'null')}: it must be {words}" if given and words else message


def _reason(line: str, message: str, key: str) -> str:
    """The reason that a line of the message gives, or nothing."""
    text = _KEY.sub("", line.strip().removeprefix("- ")).replace("(all settings: --print_config)", "").strip()
    for pattern, words in _REWORDED:
        text = re.sub(pattern, words, text)
    if required := _REQUIRED.match(text):
        return f"{_class_in(message)} needs {required[1]} (--{key}.{required[1]} VALUE)"
    return "" if _BOILERPLATE.match(text) else text


def _class_in(message: str) -> str:
    found = re.search(r"class_path='[\w.]*?(\w+)'", message)
    return found[1] if found else "a class"
