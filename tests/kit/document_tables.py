"""Tables of documents."""


def rows(text: str, start: str) -> list[list[str]]:
    """The cells of every row that begins with `start`; headings and rulers are none."""
    lines = text.splitlines()
    headings = {number - 1 for number, line in enumerate(lines) if line.startswith("|---")}
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for number, line in enumerate(lines)
        if line.startswith(start) and not line.startswith("|---") and number not in headings
    ]
