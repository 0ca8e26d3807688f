//! Lists as tables: CSV, Markdown and a matrix.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;

use super::rows::{is_unrestricted, label, ports};
use super::{DIM, GREEN, RED, YELLOW};
use crate::questions::merged::{Merged, Within};
use crate::questions::rows::{Peer, Row};

/// One record for each protocol of each row, so that a spreadsheet can filter.
pub(super) fn csv(rows: &[Row]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([
        "src_kind",
        "src_namespace",
        "src_name",
        "src_cidrs",
        "dst_kind",
        "dst_namespace",
        "dst_name",
        "dst_cidrs",
        "protocol",
        "ports",
        "for",
    ])?;
    for row in rows {
        for (set, extent) in [(&row.allowed, "all pods"), (&row.partly, "some pods")] {
            for part in set.by_protocol() {
                let ports = part.ports.join(" ");
                let fields = peer_fields(&row.src).into_iter().chain(peer_fields(&row.dst));
                writer.write_record(fields.chain([part.protocol, ports, extent.to_owned()]))?;
            }
        }
    }
    Ok(writer.into_inner()?)
}

fn peer_fields(peer: &Peer) -> [String; 4] {
    match peer {
        Peer::Workload { kind, namespace, name } => [kind.clone(), namespace.clone(), name.clone(), String::new()],
        Peer::External { kind, cidrs, .. } => [(*kind).to_owned(), String::new(), String::new(), cidrs.join(" ")],
    }
}

pub(super) fn markdown(merged: &Merged<'_>) -> String {
    let mut out = String::from("| Source | Destination | Allowed |\n| --- | --- | --- |\n");
    let name = |place: usize| label(merged.groups.get(place).map(Vec::as_slice).unwrap_or_default());
    for row in &merged.rows {
        let destination = match row.within {
            Within::EachOther => "each other".to_owned(),
            Within::Everyone => "each other and themselves".to_owned(),
            Within::Groups | Within::Themselves => name(row.destination),
        };
        let ports = ports(row.row);
        let ports = if is_unrestricted(row.row) { format!("**{ports}**") } else { ports };
        let _ = writeln!(out, "| {} | {destination} | {ports} |", name(row.source));
    }
    out
}

/// Columns of the legend.
const LEGEND_COLUMNS: usize = 3;

/// Sources as rows, destinations as columns, and a mark where a connection is allowed.
pub(super) fn matrix(merged: &Merged<'_>) -> String {
    let mut cells: BTreeMap<(usize, usize), &Row> = BTreeMap::new();
    for row in &merged.rows {
        cells.insert((row.source, row.destination), row.row);
    }
    let places = |end: fn(&(usize, usize)) -> usize| {
        let mut places: Vec<usize> = cells.keys().map(end).collect();
        places.sort_unstable();
        places.dedup();
        places
    };
    let (sources, destinations) = (places(|(source, _)| *source), places(|(_, destination)| *destination));
    let name = |place: &usize| label(merged.groups.get(*place).map(Vec::as_slice).unwrap_or_default());
    let width = sources.iter().map(|source| name(source).chars().count()).max().unwrap_or(0).max("from \\ to".len());
    let column = (0..destinations.len()).map(|n| letters(n).len()).max().unwrap_or(1);
    let mut out = format!("{:width$}", "from \\ to");
    for number in 0..destinations.len() {
        let _ = write!(out, " {:>column$}", letters(number));
    }
    out.push('\n');
    for source in &sources {
        let _ = write!(out, "{:width$}", name(source));
        for destination in &destinations {
            let _ = write!(out, " {:pad$}{}", "", mark(cells.get(&(*source, *destination)).copied()), pad = column - 1);
        }
        out.push('\n');
    }
    out.push('\n');
    let legend: Vec<String> =
        destinations.iter().enumerate().map(|(n, place)| format!("{:<column$} {}", letters(n), name(place))).collect();
    let wide = legend.iter().map(|entry| entry.chars().count()).max().unwrap_or(0);
    let columns = if wide > 40 { 1 } else { LEGEND_COLUMNS };
    for line in legend.chunks(columns) {
        let line: String = line.iter().map(|entry| format!("{entry:<wide$}   ")).collect();
        let _ = writeln!(out, "{}", line.trim_end());
    }
    let _ = writeln!(
        out,
        "\n{RED}■{RED:#} every protocol and port   {GREEN}●{GREEN:#} some ports   {YELLOW}◐{YELLOW:#} only between some of the pods   {DIM}·{DIM:#} nothing"
    );
    out
}

fn mark(row: Option<&Row>) -> String {
    match row {
        None => format!("{DIM}·{DIM:#}"),
        Some(row) if row.allowed.is_all() => format!("{RED}■{RED:#}"),
        Some(row) if row.allowed.is_empty() => format!("{YELLOW}◐{YELLOW:#}"),
        Some(_) => format!("{GREEN}●{GREEN:#}"),
    }
}

/// `a` to `z`, then `aa`.
fn letters(number: usize) -> String {
    let last = char::from(b'a' + u8::try_from(number % 26).unwrap_or_default());
    match number / 26 {
        0 => last.to_string(),
        rest => letters(rest - 1) + &last.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::letters;

    #[test]
    fn columns_have_letters() {
        let names: Vec<String> = [0, 25, 26, 51, 701, 702].into_iter().map(letters).collect();
        assert_eq!(names, ["a", "z", "aa", "az", "zz", "aaa"]);
    }
}
