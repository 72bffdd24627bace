//! What can be typed.
mod attack;
mod data;
mod deploy;
mod model;
mod study;

pub(crate) use attack::{AttackArgs, VerifyAdversarialArgs};
pub(crate) use data::{DataAction, DataArgs, DataPlace, FetchArgs, ShowArgs};
pub(crate) use deploy::{AnalyzeArgs, ExportArgs, ValidateArgs};
pub(crate) use model::{ConformanceArgs, ConvertArgs, JacobianArgs, SummaryArgs, TwinArg};
pub(crate) use study::{EvalArgs, PartArg, ReportArgs, ReproduceArgs, TrainArgs};

use clap::{Parser, Subcommand};

/// Train, audit and ship tiny networks with ternary weights.
#[derive(Debug, Parser)]
#[command(name = "ternion", version, about, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the study: data, train, evaluate, attack, audit, deploy, report
    Reproduce(ReproduceArgs),
    /// Train what a recipe describes, and evaluate it: `reproduce` up to there
    Train(TrainArgs),
    /// Accuracy of a model file on a task's data
    Eval(EvalArgs),
    /// Attack a model file on a task's test samples, and keep the examples
    Attack(AttackArgs),
    /// Check kept adversarial examples against a model: norm, box, label, prediction
    VerifyAdversarial(VerifyAdversarialArgs),
    /// Model files to safetensors and back; weights trained elsewhere into a network
    Convert(ConvertArgs),
    /// Shapes, parameters, bits, MACs, edges' data types and quantization statistics of a model or network
    Summary(SummaryArgs),
    /// Make the report again from results.jsonl
    Report(ReportArgs),
    /// Look at the data the study runs on
    Data(DataArgs),
    /// Lower a trained model to its integer program: what it costs and what is proved about it
    Analyze(AnalyzeArgs),
    /// Write the integer program as C99, as a Rust crate without std, or as ONNX
    Export(ExportArgs),
    /// Run every export and compare it with the integer program
    Validate(ValidateArgs),
    /// Jacobian norms, margins and first-order robustness radii of trained models, side by side
    Jacobian(JacobianArgs),
    /// Check against reference vectors of other libraries
    Conformance(ConformanceArgs),
    /// List what recipes can name: recipes, networks, quantizers, attacks, tasks
    Knobs,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use experiments::stage::{Shard, Stage};

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lists_and_shards_parse() {
        let cli = Cli::try_parse_from([
            "ternion",
            "reproduce",
            "--only",
            "train,attack",
            "--shard",
            "1/4",
            "--recipe",
            "a.toml",
            "b.toml",
        ]);
        let Command::Reproduce(args) = cli.unwrap().command else { panic!("another command") };
        assert_eq!(args.only, [Stage::Train, Stage::Attack]);
        assert_eq!(args.shard, Some(Shard { index: 1, count: 4 }));
        assert_eq!(args.recipe.len(), 2);
    }

    #[test]
    fn nonsense_is_wrong_usage() {
        for wrong in [["--only", "bake"], ["--shard", "4/4"], ["--profile", "huge"], ["--threads", "x"]] {
            let error = Cli::try_parse_from(["ternion", "reproduce", wrong[0], wrong[1]]).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{wrong:?}");
        }
    }
}
