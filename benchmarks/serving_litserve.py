"""Peer d of benchmarks/serving.py: LitServe with batches of eight, in an environment of its own.

    python benchmarks/serving_litserve.py RUN THREADS PORT

LitServe computes in another process, which imports this module and loads the network. It reads
annotations, which therefore must not be strings.
"""

import sys
from typing import Any

import litserve
import torch
from fastapi import Request
from serving_peers import answer, prepare

import sightx


class Api(litserve.LitAPI):
    """Predict the class of the file `image` of a form."""

    def __init__(self, run: str, threads: int) -> None:
        super().__init__(max_batch_size=8, api_path="/v1/predict")
        self.run, self.threads = run, threads

    def setup(self, device: str) -> None:
        """Load the network."""
        torch.set_num_threads(self.threads)
        self.module = sightx.Predictor.load(self.run, "cpu").module

    def decode_request(self, request: Request) -> torch.Tensor:
        """Return a normalised image (1, 3, H, W)."""
        return prepare(request["image"].file.read())

    def batch(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """Return images as a batch."""
        return torch.cat(inputs)

    def predict(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the network's outputs (B, K)."""
        with torch.inference_mode():
            return self.module(batch)

    def unbatch(self, outputs: torch.Tensor) -> list[torch.Tensor]:
        """Return the outputs of each image, (1, K)."""
        return list(outputs[:, None])

    def encode_response(self, outputs: torch.Tensor) -> dict[str, Any]:
        """Return an answer as JSON values."""
        return answer(outputs)


if __name__ == "__main__":
    run, threads, port = sys.argv[1:]
    server = litserve.LitServer(Api(run, int(threads)), accelerator="cpu")
    server.run(port=int(port), host="127.0.0.1", num_api_servers=1, generate_client_file=False)
