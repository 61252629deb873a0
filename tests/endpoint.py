"""A model's endpoint on this machine, which misbehaves when it is told to, and a provider that asks it."""

import importlib.util
import json
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GOOD = "<think>\nI look at it from all sides.\n</think>\n\nHere you are."
PROVIDER = '''
"""Speaks the chat-completions protocol, as a provider of a user's own would."""
import httpx
from inspect_ai.model import (
    ChatCompletionChoice, ChatMessageAssistant, ContentReasoning, ContentText, ModelAPI, ModelOutput, ModelUsage,
    modelapi,
)
from tenacity import wait_none

@modelapi(name="wire")
class Wire(ModelAPI):
    async def generate(self, input, tools, tool_choice, config):
        asked = {"model": self.model_name, "messages": [{"role": "user", "content": input[0].text}],
                 "temperature": config.temperature, "max_tokens": config.max_tokens, "seed": config.seed}
        url, timeout_s = open("url.txt").read().split()
        async with httpx.AsyncClient() as client:
            response = await client.post(url + "/v1/chat/completions", json=asked, timeout=float(timeout_s))
        response.raise_for_status()
        said = response.json()
        (choice,), used = said["choices"], said["usage"]
        content = choice["message"]["content"]
        if thoughts := choice["message"].get("reasoning_content"):
            content = [ContentReasoning(reasoning=thoughts), ContentText(text=content)]
        stop = {"stop": "stop", "length": "max_tokens"}[choice["finish_reason"]]
        return ModelOutput(
            model=self.model_name,
            choices=[ChatCompletionChoice(message=ChatMessageAssistant(content=content), stop_reason=stop)],
            usage=ModelUsage(input_tokens=used["prompt_tokens"], output_tokens=used["completion_tokens"],
                             total_tokens=used["prompt_tokens"] + used["completion_tokens"]),
        )

    def should_retry(self, ex):
        return isinstance(ex, httpx.TransportError) or (
            isinstance(ex, httpx.HTTPStatusError) and ex.response.status_code in (429, 500, 503)
        )

    def retry_wait(self):
        return wait_none()
'''


class Endpoint:
    """A server of chat completions on this machine.

    `say` makes of a prompt a reply, a status that is an error, or a function that misbehaves with the open connection.
    The provider reads from `url.txt` where it is, and how many seconds it waits for a reply.
    """

    def __init__(self):
        self.say = lambda text: GOOD
        self.asked, self.wanted, self.answered = Counter(), [], Counter()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                text = body["messages"][0]["content"]
                endpoint.asked[text] += 1
                endpoint.wanted.append(body)
                said = endpoint.say(text)
                if callable(said):
                    said(self)
                    return
                if isinstance(said, int):
                    self.respond(said, {"error": {"message": "not now"}})
                    return
                message = {"role": "assistant"} | (said if isinstance(said, dict) else {"content": said})
                finish = message.pop("finish_reason", "stop")
                used = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
                choice = {"index": 0, "message": message, "finish_reason": finish}
                self.respond(200, {"id": "x", "object": "chat.completion", "created": 0, "model": "m",
                                   "choices": [choice], "usage": used})  # fmt: skip
                endpoint.answered[text] += 1

            def respond(self, status, body):
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments):
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 256

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@contextmanager
def serving(folder):
    """An endpoint, and a provider installed in a folder that asks it."""
    found = Endpoint()
    info = folder / "wire-1.0.dist-info"
    info.mkdir()
    (folder / "url.txt").write_text(f"{found.url} 30")
    (folder / "wire.py").write_text(PROVIDER)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wire\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[inspect_ai]\nwire = wire\n")
    spec = importlib.util.spec_from_file_location("wire", folder / "wire.py")
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    try:
        yield found
    finally:
        found.server.shutdown()
        found.server.server_close()
