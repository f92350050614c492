"""Methods: algorithms that turn a dense layer into a level. One file each, one line here."""

from autosparse.methods.method import Method
from autosparse.registry import Registry

METHODS: Registry[Method] = Registry(
    "method",
    {
        "round_to_nearest": "autosparse.methods.round_to_nearest:RoundToNearest",
        "gptq": "autosparse.methods.gptq:Gptq",
        "magnitude": "autosparse.methods.magnitude:Magnitude",
        "wanda": "autosparse.methods.wanda:Wanda",
        "sparsegpt": "autosparse.methods.sparsegpt:SparseGpt",
        "gblm": "autosparse.methods.gblm:Gblm",
        "dsnot": "autosparse.methods.dsnot:Dsnot",
        "spectrum": "autosparse.methods.spectrum:Spectrum",
        "net_trim": "autosparse.methods.net_trim:NetTrim",
        "greedy_descent": "autosparse.methods.greedy_descent:GreedyDescent",
        "chita": "autosparse.methods.chita:Chita",
        "transposable": "autosparse.methods.transposable:Transposable",
        "alps": "autosparse.methods.alps:Alps",
        "nm_descent": "autosparse.methods.nm_descent:NmDescent",
        "gqsa": "autosparse.methods.gqsa:Gqsa",
    },
    expected=Method,
    group="autosparse.methods",
)

__all__ = ["METHODS", "Method"]
