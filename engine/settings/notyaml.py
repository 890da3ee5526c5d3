"""What is wrong with a text that isn't YAML, in an operator's words: what to change, not what a parser did not find."""

from __future__ import annotations

import re

import yaml

_INDENT = "this line begins further left or right than those that it belongs to, or lacks a `- `"
_MORE = "text goes on where a value has ended: put all of the value in quotes"


def explain(error: yaml.MarkedYAMLError, text: str) -> str:
    """One line. Nothing of the text is in it, which may be a part of a password."""
    problem, mark = error.problem or "", error.problem_mark
    lines = text.splitlines()
    line = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    column = mark.column if mark is not None else 0
    begun = f"on line {error.context_mark.line + 1}" if error.context_mark is not None else "before"
    if line[column:].startswith("\t") or "tab character" in problem:
        return "lines are indented with blanks, not with tabs"
    if "cannot start any token" in problem:
        return "put text that begins with @, % or ` in quotes"
    if "',' or" in problem:
        opening = "{" if "}" in problem else "["
        return f"the {opening} {begun} isn't closed, or a comma is missing; behind ` #` all is comment"
    if "unexpected end of stream" in problem:
        return f"the text in quotes that begins {begun} doesn't end"
    if "mapping values are not allowed" in problem:
        return "a second `: ` in one value: put text with `: ` in quotes, or indent the line as the one above"
    if "did not find expected" in problem:
        return _MORE if line[:column].strip() else _INDENT
    # PyYAML may quote what it found; single characters are its punctuation.
    return re.split(r"['\"](?!.['\"])(?<!['\"].['\"])", problem, maxsplit=1)[0].strip()
