"""The atlas that a job delivered, drawn as its own page draws it."""

from __future__ import annotations

from pydantic import ValidationError

from api.artifacts import ATLAS_DATA
from api.deliverables import deliverables
from api.service import Service
from autosparse.artifacts.atlas_data import AtlasData
from autosparse.artifacts.atlas_page import render_shapes
from autosparse.errors import BundleError, ConfigError, NotFoundError


def delivered_atlas(service: Service, job_id: str) -> str:
    """Break-evens and charts as a piece of HTML.

    Raises:
        NotFoundError: the job delivered no atlas.
        BundleError: it was written by a version that this one does not understand.
        StorageError: the artifacts' store cannot be read.
    """
    delivered = deliverables(service, job_id).get(ATLAS_DATA)
    if delivered is None:
        raise NotFoundError("the job delivered no atlas", hint="wait until it has finished")
    with delivered.open() as file:
        content = file.read()
    try:
        data = AtlasData.model_validate_json(content)
    except (ValidationError, ConfigError) as error:
        raise BundleError(
            "this version does not read the atlas", hint="download atlas.html, or measure it anew"
        ) from error
    return render_shapes(data)
