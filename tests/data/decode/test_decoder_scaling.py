import pytest

from sightx.builtin.preprocess import CenterCrop, CropToFundus, Grayscale, Resize
from sightx.data.decode.decoder import MARGIN, min_decoded_size
from sightx.plugin import Preprocess
from sightx.testing.checks import preprocess as checks


class Counting(Preprocess):
    """Count pixels."""

    name = "counting"


class Doubling(Preprocess):
    """Ask for twice what follows."""

    name = "doubling"

    def required_input_size(self, size):
        return size and (2 * size[0], 2 * size[1])


class Square(Preprocess):
    """Ask for the same whatever follows, without looking at it."""

    name = "square"

    def required_input_size(self):
        return 100, 200


@pytest.mark.parametrize(
    ("chain", "wanted"),
    [
        ((), None),
        ((Resize(size=512),), (896, 896)),
        ((Resize(size=(100, 33)),), (175, 58)),
        ((Resize(size=64, fit="pad"), CenterCrop(size=48)), (112, 112)),
        ((Grayscale(), Resize(size=64)), (112, 112)),
        ((Resize(size=64), Grayscale()), (112, 112)),
        ((Resize(size=1000), Resize(size=8)), (1750, 1750)),
        ((Doubling(), Grayscale(), Doubling(), Resize(size=64)), (448, 448)),
        ((Square(),), (175, 350)),
        ((CropToFundus(), Resize(size=(512, 400))), (1792, 1400)),
        ((CropToFundus(), Resize(size=64)), (896, 896)),  # the disc is looked for on 512 pixels
        ((CenterCrop(size=500), Resize(size=64)), None),
        ((Counting(), Resize(size=64)), None),
        ((CropToFundus(), CenterCrop(size=64)), None),
        ((Grayscale(),), None),
        ((Doubling(),), None),
    ],
)
def test_a_chain_is_asked_from_its_end(chain, wanted):
    assert min_decoded_size(chain, "scaled") == wanted
    assert min_decoded_size(chain, "exact") is None


def test_the_contract_is_tried_with_the_margin_that_decoding_keeps():
    assert checks._DECODER_MARGIN == MARGIN
