//! Rows of a comparison: medians, the ratio and its spread, as JSON and as Markdown.

use serde_json::{Value, json};

use super::Isa;
use super::worker::{Peer, Work};

/// Ours against one peer on one work.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    group: String,
    work: String,
    peer: String,
    version: String,
    threads: usize,
    ours: f64,
    theirs: f64,
    unit: String,
    /// How many times faster ours is: the median of the rounds' ratios.
    ratio: f64,
    /// Distance of the quartiles of the rounds' ratios, as a part of their median.
    spread: f64,
}

impl Row {
    /// A row of samples taken in the same rounds.
    pub(super) fn new(
        group: &str,
        work: &Work,
        peer: &Peer,
        threads: usize,
        ours: &[f64],
        theirs: &[f64],
    ) -> Self {
        let rate = work.unit.ends_with("/s");
        let ratios: Vec<f64> =
            ours.iter().zip(theirs).map(|(o, t)| if rate { o / t } else { t / o }).collect();
        let ratio = quantile(&ratios, 0.5);
        Self {
            group: group.into(),
            work: work.name.clone(),
            peer: peer.name.clone(),
            version: peer.version.clone(),
            threads,
            ours: quantile(ours, 0.5),
            theirs: quantile(theirs, 0.5),
            unit: work.unit.clone(),
            ratio,
            spread: (quantile(&ratios, 0.75) - quantile(&ratios, 0.25)) / ratio,
        }
    }
}

/// Linear interpolation between the two nearest samples; NaN of none.
fn quantile(samples: &[f64], q: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = q * sorted.len().saturating_sub(1) as f64;
    let (below, above) = (sorted.get(at as usize), sorted.get(at.ceil() as usize));
    match (below, above) {
        (Some(below), Some(above)) => below + (above - below) * at.fract(),
        _ => f64::NAN,
    }
}

/// The rows as an array of objects.
pub(super) fn json(rows: &[Row], isa: Isa) -> Value {
    let object = |row: &Row| {
        json!({
            "group": row.group, "work": row.work, "peer": row.peer, "version": row.version,
            "threads": row.threads, "isa": isa.name(), "ours": row.ours, "theirs": row.theirs, "unit": row.unit,
            "ratio": row.ratio, "spread": row.spread,
        })
    };
    rows.iter().map(object).collect()
}

/// The rows as tables, one a group, with the machine above and what is missing below.
pub(super) fn markdown(rows: &[Row], missing: &[String], isa: Isa) -> String {
    let mut text = format!("Measured on {}.\n", machine());
    if isa != Isa::Native {
        text += &format!("All are held to {}: ours and theirs.\n", isa.name());
    }
    let mut group = ("", 0);
    for row in rows {
        if (row.group.as_str(), row.threads) != group {
            group = (&row.group, row.threads);
            text += &format!(
                "\n### {}, {} thread{}\n\n| work | peer | ours | theirs | unit | ratio | spread |\n|---|---|---|---|---|---|---|\n",
                row.group,
                row.threads,
                if row.threads == 1 { "" } else { "s" },
            );
        }
        text += &format!(
            "| {} | {} {} | {} | {} | {} | {:.2} | {:.0} % |\n",
            row.work,
            row.peer,
            row.version,
            figure(row.ours),
            figure(row.theirs),
            row.unit,
            row.ratio,
            100.0 * row.spread,
        );
    }
    if !missing.is_empty() {
        text += "\nNot compared:\n\n";
        text.extend(missing.iter().map(|line| format!("- {line}\n")));
    }
    text
}

/// Four significant digits.
fn figure(value: f64) -> String {
    let digits = 3 - (value.abs().log10().floor() as i32).clamp(-6, 3);
    format!("{value:.*}", digits as usize)
}

/// The processor and the instruction sets that peers might use.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let Some(model) = field("model name") else { return "an unknown processor".into() };
    let flags = field("flags").unwrap_or_default();
    let has = |flag: &&&str| flags.split(' ').any(|f| f == **flag);
    let sets: Vec<&str> =
        ["avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni"].iter().filter(has).copied().collect();
    format!(
        "{model} (family {}, model {}; {})",
        field("cpu family").unwrap_or_default(),
        field("model\t").unwrap_or_default(),
        sets.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(unit: &str, ours: &[f64], theirs: &[f64]) -> Row {
        let work = Work { name: "w".into(), unit: unit.into(), versus: "w".into() };
        let peer = Peer { name: "p".into(), version: "1".into(), works: vec![], ours: vec![] };
        Row::new("g", &work, &peer, 1, ours, theirs)
    }

    #[test]
    fn ratios_say_how_much_faster_ours_is() {
        let rate = row("GMAC/s", &[4.0, 6.0, 5.0], &[2.0, 2.0, 2.0]);
        assert_eq!((rate.ours, rate.theirs, rate.ratio, rate.spread), (5.0, 2.0, 2.5, 0.2));
        assert_eq!(row("ms", &[2.0], &[5.0]).ratio, 2.5);
        // A disturbance that meets both leaves their ratio alone.
        assert_eq!(row("ms", &[1.0, 10.0, 1.0], &[3.0, 30.0, 3.0]).spread, 0.0);
    }

    #[test]
    fn tables_have_every_field() {
        let rows = [row("ms", &[2.0], &[5.0])];
        let json = json(&rows, Isa::Avx2);
        for field in [
            "group", "work", "peer", "version", "threads", "isa", "ours", "theirs", "unit", "ratio", "spread",
        ] {
            assert!(!json[0][field].is_null(), "{field}");
        }
        let text = markdown(&rows, &["q: not there".into()], Isa::Avx2);
        assert!(text.contains("held to avx2"), "{text}");
        assert!(text.contains("| w | p 1 | 2.000 | 5.000 | ms | 2.50 | 0 % |\n"), "{text}");
        assert!(text.contains("\n- q: not there\n"));
        assert_eq!([figure(0.01234), figure(123.44), figure(12345.0)], ["0.01234", "123.4", "12345"]);
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&[3.0, 1.0, 2.0, 4.0], 0.5), 2.5);
        assert_eq!(quantile(&[1.0], 0.75), 1.0);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
