"""The peers of benchmarks/serving.py: the same network behind servers as tutorials write them.

    python benchmarks/serving_peers.py PEER RUN THREADS PORT

`a` does everything in an `async def` handler, `b` is the `def` handler with `UploadFile` that
FastAPI's tutorial teaches, `c` the same by an engineer who knows torch. `d` has its own file.
Images are prepared by Pillow and torchvision; only the network comes from SightX.
"""

from __future__ import annotations

import io
import sys
from typing import Any

import torch
from fastapi import FastAPI, Request, UploadFile
from PIL import Image
from torchvision.transforms import v2

import sightx

TRANSFORM = v2.Compose([
    v2.Resize((224, 224), antialias=True),
    v2.PILToTensor(),
    v2.ToDtype(torch.float32, scale=True),
    v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
])  # fmt: skip


def prepare(content: bytes) -> torch.Tensor:
    return TRANSFORM(Image.open(io.BytesIO(content)).convert("RGB"))[None]


def answer(outputs: torch.Tensor) -> dict[str, Any]:
    return {"probabilities": outputs.softmax(-1)[0].tolist()}


def fastapi_app(peer: str, module: torch.nn.Module) -> FastAPI:
    app = FastAPI()

    async def inline(request: Request) -> dict[str, Any]:
        with torch.no_grad():
            return answer(module(prepare(await request.body())))

    def tutorial(image: UploadFile) -> dict[str, Any]:
        with torch.no_grad():
            return answer(module(prepare(image.file.read())))

    def careful(image: UploadFile) -> dict[str, Any]:
        with torch.inference_mode():
            return answer(module(prepare(image.file.read())))

    handler = {"a": inline, "b": tutorial, "c": careful}[peer]
    app.add_api_route("/v1/predict", handler, methods=["POST"], response_model=None)
    app.add_api_route("/livez", lambda: {}, methods=["GET"])
    return app


def main() -> None:
    import uvicorn

    peer, run, threads, port = sys.argv[1:]
    torch.set_num_threads(int(threads))
    module = sightx.Predictor.load(run, "cpu").module
    app = fastapi_app(peer, module)
    uvicorn.run(app, port=int(port), access_log=False, log_level="error")


if __name__ == "__main__":
    main()
