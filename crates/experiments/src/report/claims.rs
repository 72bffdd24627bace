//! What the papers report, word for word as far as it could be read, beside what was measured here.
//!
//! These are the only numbers of the report that were not measured: the public abstracts of arXiv 2503.08973
//! and 2304.12829 and two public summaries. Tables, topologies and attack budgets of both papers could not be
//! obtained, so nothing finer is quoted.
use super::view::{Line, Table, kilobytes, percent};

/// How a claim is answered from our rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Mean robust accuracy of the method minus that of the rival, over all sizes of the attacks of one kind.
    Gap { black_box: bool, rivals: &'static [&'static str] },
    /// Flash of the method's network.
    Flash,
    /// Clean accuracy of the method's network minus that of each twin.
    CleanGap { rivals: &'static [&'static str] },
    /// Nothing of ours speaks to it.
    NotRun,
}

/// A statement of a paper.
#[derive(Debug)]
pub(super) struct Claim {
    /// Study it is about; empty for none of ours.
    pub(super) study: &'static str,
    /// What the paper reports.
    pub(super) reported: &'static str,
    /// Where.
    pub(super) source: &'static str,
    /// Why the two cannot be compared as they stand.
    pub(super) caveat: &'static str,
    /// The same in a table cell.
    pub(super) brief_caveat: &'static str,
    /// The claim in a table cell.
    pub(super) brief: &'static str,
    /// Recipes of ours the claim is about, best first.
    methods: &'static [&'static str],
    answer: Answer,
}

const IMAGE: &[&str] = &["stq_image_l_jr", "stq_image_s_jr"];
const AUDIO: &[&str] = &["stq_audio_l_jr", "stq_audio_s_jr"];
const IMAGE_PLAIN: &[&str] = &["stq_image_l", "stq_image_s"];
const AUDIO_PLAIN: &[&str] = &["stq_audio_l", "stq_audio_s"];
const BUDGETS: &str = "topology and attack budgets are not public";
const UNKNOWN: &str = "topology, training and attack budgets of the paper are not public";

/// Every claim that could be read.
pub(super) const CLAIMS: &[Claim] = &[
    Claim {
        study: "cifar10",
        reported: "on average better than Quanos under white-box attacks on CIFAR-10 (no number given)",
        source: "arXiv:2503.08973, abstract",
        caveat: "the rule of Quanos and the paper's attack budgets are not public; what \"average\" runs over is not said",
        brief_caveat: "Quanos' rule is not public",
        brief: "better than Quanos, white-box",
        methods: IMAGE,
        answer: Answer::Gap { black_box: false, rivals: &["quanos_more_bits", "quanos_fewer_bits"] },
    },
    Claim {
        study: "cifar10",
        reported: "8.3 % higher accuracy on average than the MLCommons/Tiny benchmarks under white-box attacks on CIFAR-10",
        source: "arXiv:2304.12829, abstract",
        caveat: UNKNOWN,
        brief_caveat: BUDGETS,
        brief: "+8.3 % over MLPerf Tiny, white-box",
        methods: IMAGE,
        answer: Answer::Gap { black_box: false, rivals: &["resnet8_int8", "resnet8_float"] },
    },
    Claim {
        study: "cifar10",
        reported: "the STQ model requires 410 KB of memory",
        source: "public summaries of arXiv:2503.08973",
        caveat: "the summaries do not say whether code, activations or metadata are counted",
        brief_caveat: "what the 410 KB count is not said",
        brief: "410 KB",
        methods: &["stq_image_l_jr", "stq_image_l", "stq_image_s_jr", "stq_image_s"],
        answer: Answer::Flash,
    },
    Claim {
        study: "cifar10",
        reported: "STQ more accurate than float, stochastic binary and other quantized models",
        source: "public summaries of arXiv:2503.08973",
        caveat: UNKNOWN,
        brief_caveat: BUDGETS,
        brief: "more accurate than its float twin",
        methods: IMAGE_PLAIN,
        answer: Answer::CleanGap { rivals: &["stq_image_s_float", "stq_image_s_binary", "stq_image_s_int8"] },
    },
    Claim {
        study: "speech",
        reported: "on average better than DS-CNN MLC/T under black-box attacks on GSC (no number given)",
        source: "arXiv:2503.08973, abstract",
        caveat: "which words and clips of GSC, which attacks and how many queries are not public",
        brief_caveat: "clips, attacks and queries are not public",
        brief: "better than DS-CNN, black-box",
        methods: AUDIO,
        answer: Answer::Gap { black_box: true, rivals: &["ds_cnn_int8", "ds_cnn_float"] },
    },
    Claim {
        study: "speech",
        reported: "79.5 % higher accuracy on average than the MLCommons/Tiny benchmarks under black-box attacks on a subset of GSC",
        source: "arXiv:2304.12829, abstract",
        caveat: "which words and clips of GSC, which attacks and how many queries are not public",
        brief_caveat: "clips, attacks and queries are not public",
        brief: "+79.5 % over MLPerf Tiny, black-box",
        methods: AUDIO,
        answer: Answer::Gap { black_box: true, rivals: &["ds_cnn_int8", "ds_cnn_float"] },
    },
    Claim {
        study: "speech",
        reported: "STQ more accurate than float, stochastic binary and other quantized models",
        source: "public summaries of arXiv:2503.08973",
        caveat: UNKNOWN,
        brief_caveat: BUDGETS,
        brief: "more accurate than its float twin",
        methods: AUDIO_PLAIN,
        answer: Answer::CleanGap { rivals: &["stq_audio_s_float"] },
    },
    Claim {
        study: "",
        reported: "6.5 % more accurate under black-box attacks on SVHN",
        source: "arXiv:2304.12829, abstract",
        caveat: "SVHN is not part of this study",
        brief_caveat: "",
        brief: "",
        methods: &[],
        answer: Answer::NotRun,
    },
];

impl Claim {
    /// Whether the claim is about this recipe.
    fn concerns(&self, recipe: &str) -> bool {
        self.methods.contains(&recipe)
    }

    /// What a recipe's row says: the claims about it in brief, and why they cannot be compared.
    pub(super) fn cells(recipe: &str) -> (Vec<&'static Self>, Vec<&'static str>) {
        let claims: Vec<&Self> = CLAIMS.iter().filter(|c| c.concerns(recipe)).collect();
        let mut caveats = Vec::new();
        for claim in &claims {
            if !caveats.contains(&claim.brief_caveat) {
                caveats.push(claim.brief_caveat);
            }
        }
        (claims, caveats)
    }

    /// What was measured here, in words; says so if nothing was.
    pub(super) fn measured(&self, tables: &[Table<'_>]) -> String {
        let table = tables.iter().find(|t| t.study == self.study);
        let first = |names: &[&str]| -> Option<&Line<'_>> {
            names.iter().find_map(|name| table?.lines.iter().find(|l| l.recipe == *name))
        };
        let Some(method) = first(self.methods) else { return "not run".to_owned() };
        let data = if method.any.data.embedded { " (embedded data)" } else { "" };
        let answer = match self.answer {
            Answer::Gap { black_box, rivals } => first(rivals).and_then(|rival| {
                let (ours, theirs) = (method.mean_under(black_box)?, rival.mean_under(black_box)?);
                Some(format!(
                    "{} points: {} {} %, {} {} %, mean over attacks and sizes",
                    signed(ours - theirs),
                    method.title,
                    percent(ours),
                    rival.title,
                    percent(theirs)
                ))
            }),
            Answer::Flash => method.footprint.map(|f| format!("{}: {}", method.title, kilobytes(f.flash))),
            Answer::CleanGap { rivals } => {
                let gaps: Vec<String> = rivals
                    .iter()
                    .filter_map(|name| {
                        let rival = first(&[*name])?;
                        let gap = method.clean.as_ref()?.value - rival.clean.as_ref()?.value;
                        Some(format!("{} points against {}", signed(gap), rival.title))
                    })
                    .collect();
                (!gaps.is_empty()).then(|| format!("{}: {}", method.title, gaps.join(", ")))
            }
            Answer::NotRun => None,
        };
        answer.map_or_else(|| "not run in this profile".to_owned(), |text| text + data)
    }
}

fn signed(gap: f64) -> String {
    format!("{:+.1}", 100.0 * gap)
}
