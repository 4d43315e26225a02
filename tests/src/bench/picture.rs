//! The picture: a bar for each side of each workload, as SVG.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};

use crate::report::{Outcome, Report};

const WIDTH: f64 = 860.0;
const LABEL_WIDTH: f64 = 270.0;
const BAR_WIDTH_MAX: f64 = 430.0;
const BAR_HEIGHT: f64 = 14.0;
const GROUP_GAP: f64 = 16.0;
const TOP: f64 = 64.0;

/// Name and colour of each bar, in the order of [`crate::report::SIDES`]. The colours differ in
/// lightness too.
const BARS: [(&str, &str); 3] = [
    ("PostgreSQL logical replication", "#9aa5b1"),
    ("the same, binary = on", "#cbd2d9"),
    ("replicator", "#0b6e99"),
];

/// Writes `pglogical.svg`.
pub(crate) fn write(report: &Report, folder: &Path) -> Result<()> {
    let file = folder.join("pglogical.svg");
    std::fs::write(&file, svg(&report.outcomes, &report.machine)?)
        .with_context(|| format!("could not write {}", file.display()))
}

fn svg(outcomes: &[Outcome], machine: &str) -> Result<String> {
    let group = BAR_HEIGHT * 3.0 + GROUP_GAP;
    let height = TOP + group * outcomes.len() as f64 + 24.0;
    let fastest = outcomes
        .iter()
        .flat_map(|outcome| outcome.sides.iter().flatten())
        .map(|side| side.rows_per_s)
        .fold(1.0, f64::max);
    let mut out = String::new();
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">"
    )?;
    writeln!(out, "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>")?;
    text(&mut out, 16.0, 24.0, "start", "Catch-up from PostgreSQL to PostgreSQL, rows a second")?;
    let mut x = 16.0;
    for (name, colour) in BARS {
        writeln!(out, "<rect x=\"{x}\" y=\"36\" width=\"12\" height=\"12\" fill=\"{colour}\"/>")?;
        text(&mut out, x + 18.0, 46.0, "start", name)?;
        x += 50.0 + name.len() as f64 * 7.0;
    }
    for (number, outcome) in outcomes.iter().enumerate() {
        let top = TOP + group * number as f64;
        let middle = top + BAR_HEIGHT * 1.5 + 4.0;
        text(&mut out, LABEL_WIDTH - 10.0, middle, "end", outcome.workload.title)?;
        for (place, (side, (_, colour))) in outcome.sides.iter().zip(BARS).enumerate() {
            let Some(side) = side else { continue };
            let y = top + BAR_HEIGHT * place as f64;
            let width = BAR_WIDTH_MAX * side.rows_per_s / fastest;
            writeln!(
                out,
                "<rect x=\"{LABEL_WIDTH}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" \
                 fill=\"{colour}\"/>",
                BAR_HEIGHT - 2.0
            )?;
            let ratio = outcome.ratio().filter(|_| place == 2);
            let ratio = ratio.map_or_else(String::new, |ratio| format!(" ({ratio:.1}x)"));
            let label = format!("{:.0} k{ratio}", side.rows_per_s / 1_000.0);
            text(&mut out, LABEL_WIDTH + width + 6.0, y + 10.0, "start", &label)?;
        }
    }
    text(&mut out, 16.0, height - 10.0, "start", machine)?;
    writeln!(out, "</svg>")?;
    Ok(out)
}

/// One line of text. `anchor` says which of its ends `x` is.
fn text(out: &mut String, x: f64, y: f64, anchor: &str, words: &str) -> Result<()> {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>")?;
    Ok(())
}
