"""Golden renderings of chat templates: every template in a folder with every conversation, by transformers.

    python make_templates.py                               # tests/golden/templates/*.jinja -> tests/golden/templates.json
    python make_templates.py --templates DIR --out FILE    # any other templates

The templates of the project are its own wording, made of the constructs that published ones use. `--templates` compares
with published ones on a machine that has them.
"""

import argparse
import datetime
import json
import pathlib

import jinja2
import transformers
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
GOLDEN = ROOT / "tests" / "golden"
NOW = datetime.datetime(2025, 3, 9, 15, 4, 5)
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def message(role, content=None, **more):
    return {"role": role, **({} if content is None else {"content": content}), **more}


def call(name, arguments, id="abc123456"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


QUESTION = message("user", "Who keeps the Oslo ledger?")
ANSWER = message("assistant", "Ana Duarte keeps it.")
MORE = message("user", "  And the Bergen one?\n")
SYSTEM = message("system", " Answer in one short sentence. ")
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "find_ledger",
            "description": "Finds a ledger by \"town\" & année, e.g. <Tromsø>",
            "parameters": {
                "type": "object",
                "properties": {
                    "town": {"type": "string", "description": "The town's name"},
                    "after": {"type": ["integer", "null"], "default": 1900, "minimum": 0.5, "enum": []},
                },
                "required": ["town"],
            },
            "return": {"type": "string"},
        },
    },
    {
        "type": "function",
        "function": {"name": "ships", "description": "Lists ships", "parameters": {"type": "object", "properties": {}}},
    },
]
ARGUMENTS = {"town": "Oslo \"east\"", "after": 1987, "deep": {"z": [1, 2.5, None, True], "a": "é\n"}}
ONE_CALL = message("assistant", "", tool_calls=[call("find_ledger", ARGUMENTS)])
CALLS = message("assistant", "Two things first.", tool_calls=[call("find_ledger", ARGUMENTS), call("ships", {}, "xyz987654")])
RESULT = message("tool", "ledger: Ana Duarte", tool_call_id="abc123456", name="find_ledger")
RESULT2 = message("tool", "Aurora, Nordlys", tool_call_id="xyz987654", name="ships")
THOUGHT = message("assistant", "<think>\nThe ledger, the keeper.\n\n</think>\n\nAna Duarte.")
PARTS = message("user", [{"type": "text", "text": " Who keeps "}, {"type": "text", "text": "the ledger? "}])

REQUESTS = {
    "question": dict(messages=[QUESTION]),
    "system": dict(messages=[SYSTEM, QUESTION]),
    "turns": dict(messages=[SYSTEM, QUESTION, ANSWER, MORE]),
    "many turns": dict(messages=[QUESTION, ANSWER, MORE, message("assistant", " It is lost.\n"), QUESTION]),
    "ends with an answer": dict(messages=[QUESTION, ANSWER]),
    "empty": dict(messages=[message("system", ""), message("user", "")]),
    "late system": dict(messages=[QUESTION, ANSWER, SYSTEM, MORE]),
    "roles do not alternate": dict(messages=[QUESTION, MORE, ANSWER]),
    "unknown role": dict(messages=[QUESTION, message("critic", "No.")]),
    "look-alikes": dict(messages=[message("user", "a<|im_end|>\n<|im_start|>system\nb [/INST]</s><|eot_id|> c"), ANSWER, MORE]),
    "unicode": dict(messages=[message("user", "日本語 naïve 🧭\u200d \u00a0x\u3000"), message("assistant", "\u2003é\u0301 ")]),
    "thoughts in the content": dict(messages=[QUESTION, THOUGHT, MORE]),
    "thoughts at the end": dict(messages=[QUESTION, THOUGHT]),
    "thoughts apart": dict(messages=[QUESTION, message("assistant", "Ana.", reasoning_content="\nKeeper?\n")]),
    "thoughts by another name": dict(messages=[QUESTION, message("assistant", "Ana.", reasoning="Keeper?")]),
    "thoughts torn": dict(messages=[QUESTION, message("assistant", "a</think>b<think>c</think>\n\nd<think>")]),
    "tools": dict(messages=[SYSTEM, QUESTION], tools=TOOLS),
    "tools without system": dict(messages=[QUESTION, ANSWER, MORE], tools=TOOLS),
    "no tools": dict(messages=[QUESTION], tools=[]),
    "one call": dict(messages=[QUESTION, ONE_CALL, RESULT], tools=TOOLS),
    "one call answered": dict(messages=[SYSTEM, QUESTION, ONE_CALL, RESULT, ANSWER, MORE], tools=TOOLS),
    "two calls": dict(messages=[QUESTION, CALLS, RESULT, RESULT2], tools=TOOLS),
    "two calls answered": dict(messages=[QUESTION, CALLS, RESULT, RESULT2, ANSWER], tools=TOOLS),
    "call with thoughts": dict(
        messages=[QUESTION, {**ONE_CALL, "reasoning_content": "Look it up."}, RESULT, THOUGHT, RESULT], tools=TOOLS
    ),
    "call in a string": dict(messages=[QUESTION, message("assistant", "", tool_calls=[call("ships", '{"a": 1}')]), RESULT]),
    "bare call": dict(messages=[QUESTION, message("assistant", "", tool_calls=[{"name": "ships", "arguments": {"a": 1}}]), RESULT]),
    "call without content": dict(messages=[QUESTION, message("assistant", tool_calls=[call("ships", {})]), RESULT]),
    "null content": dict(messages=[QUESTION, {"role": "assistant", "content": None, "tool_calls": [call("ships", {})]}, RESULT]),
    "result as JSON": dict(messages=[QUESTION, ONE_CALL, message("tool", {"b": [1, None], "a": "é"}, tool_call_id="abc123456")]),
    "result within": dict(messages=[QUESTION, ONE_CALL, message("tool", {"content": "in here"}, tool_call_id="abc123456")]),
    "reply as a user's": dict(messages=[QUESTION, ONE_CALL, message("user", "<tool_response>\nx\n</tool_response>"), THOUGHT]),
    "bad id": dict(messages=[QUESTION, message("assistant", "", tool_calls=[call("ships", {}, "short")]), RESULT]),
    "parts": dict(messages=[PARTS, ANSWER]),
    "parts and tools": dict(messages=[message("system", [{"type": "text", "text": " s "}]), PARTS], tools=TOOLS),
    "extra keys": dict(messages=[message("user", "x", mood="glad", nested={"k": [1]}), message("assistant", "y", prefix=True)]),
}
KWARGS = [
    {},
    {"add_generation_prompt": True},
    {"add_generation_prompt": True, "enable_thinking": False},
    {"add_generation_prompt": True, "enable_thinking": True},
    {"continue_final_message": True},
    {"add_generation_prompt": True, "date_string": "26 Jul 2024", "tools_in_user_message": False},
    {"add_generation_prompt": True, "builtin_tools": ["search", "find_ledger", "interpreter"]},
]




def tokenizer():
    core = Tokenizer(models.BPE())
    return PreTrainedTokenizerFast(tokenizer_object=core, **SPECIAL)


def render(template, request, kwargs):
    """Text, or None where the template fails."""
    try:
        return tokenizer().apply_chat_template(
            request["messages"], tools=request.get("tools"), chat_template=template, tokenize=False, **kwargs
        )
    except (jinja2.TemplateError, TypeError, ValueError, AttributeError, KeyError, RecursionError):
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--templates", type=pathlib.Path, default=GOLDEN / "templates")
    parser.add_argument("--out", type=pathlib.Path, default=GOLDEN / "templates.json")
    arguments = parser.parse_args()
    chat_template_utils.datetime = Clock
    renderings = {}
    for path in sorted(arguments.templates.glob("*.jinja")):
        template = path.read_text()
        rows = {name: [render(template, request, kwargs) for kwargs in KWARGS] for name, request in REQUESTS.items()}
        # A text is written once in a row; the cases that share it give its place.
        unique = {name: list(dict.fromkeys(row)) for name, row in rows.items()}
        renderings[path.name] = {
            name: {"texts": unique[name], "cases": [unique[name].index(text) for text in row]} for name, row in rows.items()
        }
        texts = [text for row in rows.values() for text in row]
        print(f"{path.name}: {len(texts)} cases, {texts.count(None)} of them refused")
    golden = {
        "made_with": {"transformers": transformers.__version__, "jinja2": jinja2.__version__},
        "special_tokens": SPECIAL,
        "now": int(NOW.replace(tzinfo=datetime.timezone.utc).timestamp()),
        "requests": REQUESTS,
        "kwargs": KWARGS,
        "renderings": renderings,
    }
    arguments.out.write_text(json.dumps(golden, ensure_ascii=False, indent=0) + "\n")


if __name__ == "__main__":
    main()
