"""Tables and colours on the terminal."""

import rich.console


class Console(rich.console.Console):
    """rich's, except where the reader of the output has left: on stdout that is an error like any
    other, and on stderr nothing is lost that anybody reads. rich would end the program."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        if not self.stderr:
            raise BrokenPipeError
