"""Count the lines and the lines of code of each module of seglib.

python benchmarks/size.py
"""

import ast
import io
import pathlib
import subprocess
import tokenize

import pandas as pd

ROOT = pathlib.Path(__file__).parent.parent
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def count_code(text: str) -> int:
    """Count the lines that hold code.

    Args:
        text: str, Python source.

    Returns:
        int, lines without blank ones, comments and docstrings.

    Example:
        >>> count_code('''"Title."
        ...
        ... # Two.
        ... x = [
        ...     2,  # here
        ... ]
        ... ''')
        3
    """
    code, docstrings = set(), set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in LAYOUT:
            code.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            docstrings.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(code - docstrings)


def measure_modules(root: pathlib.Path = ROOT) -> pd.DataFrame:
    """Measure the files of seglib that git knows.

    Args:
        root: path of the repository.

    Returns:
        DataFrame by path below `root`, with the columns `lines` and `code`.
    """
    command = ["git", "ls-files", "seglib/*.py"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    texts = {
        path: (root / path).read_text(encoding="utf-8")
        for path in listed.stdout.splitlines()
        if (root / path).is_file()
    }
    rows = {path: (len(text.splitlines()), count_code(text)) for path, text in texts.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["lines", "code"])


if __name__ == "__main__":
    table = measure_modules()
    table.loc[f"{len(table)} modules"] = table.sum()
    print(table.to_string())
