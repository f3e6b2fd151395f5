"""Serve the pages: on this computer alone unless told otherwise, without analytics and without files from elsewhere."""

import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from editgan.editor.editor import Editor
from editgan.errors import UserError

LOCAL = "127.0.0.1"
LARGEST_UPLOAD = "20mb"
LONGEST_QUEUE = 64  # events that wait, of all pages together
# The browser fetches nothing from elsewhere, whatever a component asks for.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)


@contextmanager
def served(
    models: Mapping[str, tuple[Editor, Path]],
    *,
    host: str = LOCAL,
    port: int | None = None,
    auth: tuple[str, str] | None = None,
) -> Iterator[str]:
    """Serve a page for each model while the context lasts; gives the address of the first. All files of the sessions
    are removed at its end.

    Args:
        models: editors and their folders of outputs, by the name shown for them
        port: None: the first free one from 7860 on
        auth: user name and password that the pages ask for
    Raises:
        UserError: Gradio is not installed, or no port is free.
    """
    with tempfile.TemporaryDirectory(prefix="editgan-studio-") as folder:
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
        try:
            import gradio as gr
        except ImportError:
            raise UserError("the studio needs Gradio: `make studio`, or `pip install -e '.[studio]'`") from None
        from starlette.middleware import Middleware

        from editgan.studio.layout import Layout, new_blocks
        from editgan.studio.page import Page
        from editgan.studio.visits import Visits

        blocks = new_blocks()
        for number, (name, (editor, outputs)) in enumerate(models.items()):
            if number:
                blocks.route(name)  # what is made from here on is on another page
            Page(Layout(editor, outputs, blocks, list(models)), Visits(editor, outputs, Path(folder)))
        fonts = dict(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
        try:
            _, address, _ = blocks.queue(max_size=LONGEST_QUEUE, api_open=False).launch(
                server_name=host,
                server_port=port,
                auth=auth,
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                max_file_size=LARGEST_UPLOAD,
                ssr_mode=False,
                footer_links=[],
                theme=gr.themes.Default(primary_hue="indigo", **fonts),
                css_paths=Path(__file__).parent / "page.css",
                app_kwargs={"middleware": [Middleware(Policy)]},
            )
        except OSError as fault:
            raise UserError(f"the studio cannot listen on {host}: {fault}; choose another --port") from None
        except ValueError as fault:  # of Gradio, if the page does not answer itself within three seconds
            blocks.close(verbose=False)
            busy = "the computer may be too busy, or a proxy is set for it: start the studio again, or set no_proxy"
            raise UserError(f"the studio does not answer on {host}; {busy} ({fault})") from None
        warming = threading.Thread(target=warm, args=([editor for editor, _ in models.values()],))
        warming.start()
        try:
            yield address
        finally:
            blocks.close(verbose=False)
            warming.join()  # torch aborts a process that ends while another thread computes


def warm(editors: Sequence[Editor]) -> None:
    """Measure the models' own pictures before someone uploads the first one."""
    for one in map(Editor.copy, editors):
        one.photos = one.sample([0])
        with suppress(UserError):  # told where somebody asks
            one.representation()


class Policy:
    """ASGI middleware that adds the content security policy to every answer."""

    def __init__(self, app: Callable) -> None:
        self.app = app

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        async def answer(message: dict) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        await self.app(scope, receive, answer)
