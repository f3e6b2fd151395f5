"""The packages that import torchvision import, whatever torchvision was linked against."""

import subprocess
import sys

from editgan.runtime.environment import PROJECT_ROOT

CODE = """
import sys
import editgan
assert "torch" not in sys.modules, "editgan alone is to be light"
import cleanfid.fid, lpips, torch_fidelity, torchvision
import torchmetrics.image
print(torchvision.models.alexnet(weights=None).features[0].out_channels)
"""


def test_metric_packages_import_after_editgan():
    done = subprocess.run([sys.executable, "-c", CODE], cwd=PROJECT_ROOT, capture_output=True, text=True)
    assert done.stdout.split()[-1:] == ["64"], done.stderr
