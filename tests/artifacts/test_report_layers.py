"""The layer section of the report: costs of every layer, and what the correction does."""

from __future__ import annotations

from autosparse.artifacts.report import render_report
from autosparse.artifacts.report_data import CorrectionRow
from tests.artifacts.report_example import Page, layer, report_data, text_of


def test_every_layer_tells_what_it_costs() -> None:
    html = render_report(report_data(layers=(layer(macs=147_456), layer("fc", macs=None))))
    assert "Parameters MACs" in text_of(html)
    assert "2,304 9.22 kB 147,456" in text_of(html)
    assert {"2304.0", "147456"} <= set(Page(html).attributes("data-v"))


def test_a_table_has_as_many_cells_as_columns() -> None:
    """What unfolds under a layer spans all of them."""
    html = render_report(report_data(layers=(layer(macs=1),)))
    head, _, rest = html.partition('<table id="layer-table"')[2].partition("</thead>")
    first_row = rest.partition("</tr>")[0]
    columns = head.count("<th scope")
    assert first_row.count("<td") + first_row.count('<th scope="row"') == columns
    assert f'colspan="{columns}"' in rest


def test_what_ms_after_is_stands_below_the_table() -> None:
    text = text_of(render_report(report_data()))
    assert "After is the layer's share in a file whose layers are all at this level" in text


def test_operators_that_are_no_layers_are_listed_with_the_reason() -> None:
    skipped = (("loop/body/<b>", "it is inside the body of Loop 'loop'"), ("scores", "a reason"))
    html = render_report(report_data(skipped=skipped))
    assert "2 weighted operators that are no layers" in text_of(html)
    assert "loop/body/<b> : it is inside the body of Loop 'loop' scores : a reason" in text_of(html)
    assert "<code>loop/body/<b>" not in html
    many = tuple((f"node{i}", "a reason") for i in range(250))
    text = text_of(render_report(report_data(skipped=many)))
    assert "250 weighted operators that are no layers They stay as they came. The first 200" in text
    assert "node199" in text
    assert "node200" not in text


def test_the_effects_of_the_correction_are_a_table() -> None:
    effects = (
        CorrectionRow(level="2:4:fp32", plain=0.4, corrected=0.1, used=True),
        CorrectionRow(level="dense:int8", plain=0.01, corrected=0.0125, used=False),
        CorrectionRow(level="1:4:fp32", plain=float("nan"), corrected=0.5, used=False),
    )
    text = text_of(render_report(report_data(corrections=effects)))
    assert "Correction of channel statistics" in text
    assert "2:4:fp32 (2 non-zeros in every 4, 50 % zeros) 0.400 0.100 -75.0 % yes" in text
    assert "dense:int8 0.0100 0.0125 25.0 % no" in text


def test_without_effects_there_is_no_such_table() -> None:
    assert "Correction of channel statistics" not in text_of(render_report(report_data()))
