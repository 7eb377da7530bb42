"""The same configuration as the files on the hub have it, most of which transformers 4 wrote."""

import json

# Fields that transformers 5 writes and the hub's older files do not have.
NEWER = {"layer_types", "pad_token_id", "dtype", "rope_parameters", "transformers_version", "num_local_experts"}


def transformers4(config, dtype, spec):
    """`config.json` of transformers 5 as transformers 4 wrote it."""
    old = {key: value for key, value in config.items() if key not in NEWER}
    if "num_local_experts" in config:
        old["num_experts"] = config["num_local_experts"]
    scaling = config["rope_parameters"]
    if "full_attention" in scaling:
        old["rope_local_base_freq"] = scaling["sliding_attention"]["rope_theta"]
        scaling = scaling["full_attention"]
    scaling = dict(scaling)
    old["rope_theta"] = scaling.pop("rope_theta")
    old["rope_scaling"] = None if scaling["rope_type"] == "default" else scaling
    old["torch_dtype"] = str(dtype).removeprefix("torch.")
    old["transformers_version"] = "4.51.0"
    old |= spec.hub_fields
    dropped = {key for key, value in spec.hub_fields.items() if value is None}
    return {key: old[key] for key in sorted(old) if key not in dropped}


def write_layouts(folder, spec):
    """Writes `config.*.json` beside config.json; each must give the same logits. Returns their names."""
    config = json.loads((folder / "config.json").read_text())
    old = transformers4(config, spec.dtype, spec)
    layouts = {"config.transformers4.json": old}
    layouts |= {name: old | fields for name, fields in spec.more_layouts.items()}
    for name, layout in layouts.items():
        (folder / name).write_text(json.dumps(layout, indent=2) + "\n")
    return list(layouts)
