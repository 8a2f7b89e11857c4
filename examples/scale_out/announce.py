"""Shows a line of text on every open page: python announce.py "Back at noon" """

import sys

from hakgal_hybrid import Emitter

with Emitter() as emitter:  # HYBRID_BACKPLANE and HYBRID_BACKPLANE_NAME say where to; the end of the block sends all
    emitter.emit("notice", {"text": sys.argv[1]})
