//! What can be typed.
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use experiments::recipe::Profile;
use experiments::stage::{Shard, Stage};

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

/// Every stage is cached under OUT/cache, keyed by all it depends on: what is there is not computed again, and an
/// interrupted run continues where it stopped.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ternion reproduce                                  the study in small (quick on real data, else smoke)
  ternion reproduce --profile full --data ~/data     the study at the paper's size; can be interrupted
  ternion reproduce --recipe stq_image_s --dry-run   what one recipe would run, and for how long
  ternion reproduce --only attack --shard 0/4        a quarter of the attacks; other machines do the rest
  ternion reproduce --recipe mine.toml --json        a recipe of one's own, events as JSON lines

Exit codes: 0 done, 1 a stage failed, 2 wrong usage.")]
pub(crate) struct ReproduceArgs {
    /// How much to run; quick by default, smoke if only embedded data is there
    #[arg(long, value_enum)]
    pub(crate) profile: Option<ProfileArg>,
    /// Recipe file or name of a built-in recipe; may be repeated; all of the profile's by default
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) recipe: Vec<String>,
    /// Folder with the datasets in their official layouts; then $TERNION_DATA and the user's cache are searched
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Folder for cache, results and report
    #[arg(long, value_name = "DIR", default_value = "out")]
    pub(crate) out: PathBuf,
    /// One seed instead of the recipes' own
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Run only these stages; what they need must be cached
    #[arg(long, value_name = "STAGE", num_args = 1.., value_delimiter = ',')]
    pub(crate) only: Vec<Stage>,
    /// Attack only samples i modulo n; parts are merged in any order
    #[arg(long, value_name = "i/n")]
    pub(crate) shard: Option<Shard>,
    /// Print stages, keys, what is cached and an estimate, and stop
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Plan and events as JSON lines on standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// Threads; results do not depend on it
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

/// Checkpoints after every epoch: an interrupted run continues there with the same bits.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ternion train stq_image_s --data ~/data            a built-in recipe at the study's full length
  ternion train mine.toml --profile quick --seed 3   a recipe of one's own

Beside OUT/cache/train-KEY/model.qnn lie its history (history.jsonl, and events for TensorBoard).")]
pub(crate) struct TrainArgs {
    /// Recipe file or name of a built-in recipe
    pub(crate) recipe: String,
    /// Length of the run
    #[arg(long, value_enum, default_value = "full")]
    pub(crate) profile: ProfileArg,
    /// Folder with the datasets; then $TERNION_DATA and the user's cache are searched
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Folder for cache and results
    #[arg(long, value_name = "DIR", default_value = "out")]
    pub(crate) out: PathBuf,
    /// One seed instead of the recipe's own
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Events as JSON lines on standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// Threads; results do not depend on it
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// Model file: our own, or a safetensors export of ours
    pub(crate) model: PathBuf,
    /// Task by name, such as cifar10 or speech_commands_5fold(fold=0)
    #[arg(long, default_value = "cifar10")]
    pub(crate) task: String,
    /// Which samples
    #[arg(long, value_enum, default_value = "test")]
    pub(crate) part: PartArg,
    /// Folder with the datasets; then $TERNION_DATA and the user's cache are searched
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The first test samples are attacked. Sizes are in units of the network's input: 1/255 for images in [0, 1], standard
/// deviations for standardised MFCC, codes for networks that take raw 0 to 255.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ternion attack model.qnn --eps 2/255                           PGD with the strong defaults
  ternion attack model.qnn --attack autoattack --eps 1/255 4/255 --samples 1000
  ternion attack model.qnn --attack 'square(queries=5000)' --integer --eps 2/255   the deployed integer program
  ternion attack --network resnet8 --weights resnet8.safetensors --raw --attack autoattack --eps 1
  ternion attack model.qnn --from twin.qnn --eps 2/255           transfer from a float twin
  ternion attack model.qnn --integer --gradients identity --eps 2/255   PGD on the integer program, gradients by BPDA
  ternion attack model.qnn --attack 'autoattack(norm=l1)' --eps 12   sum of absolute changes
  ternion attack model.qnn --eps 2/255 --out adv.npz             8-bit examples for verify-adversarial

Exit codes: 0 done, 1 failed, 2 wrong usage.")]
pub(crate) struct AttackArgs {
    /// Model file: our own, or a safetensors export of ours
    #[arg(required_unless_present = "network")]
    pub(crate) model: Option<PathBuf>,
    /// Network of the zoo for weights of another origin
    #[arg(long, value_name = "NAME", requires = "weights", conflicts_with = "model")]
    pub(crate) network: Option<String>,
    /// Weights of that network as safetensors, in Keras or our layouts
    #[arg(long, value_name = "FILE", requires = "network")]
    pub(crate) weights: Option<PathBuf>,
    /// That network takes codes 0 to 255 as they are
    #[arg(long, requires = "network")]
    pub(crate) raw: bool,
    /// Attack in text form
    #[arg(long, default_value = "pgd")]
    pub(crate) attack: String,
    /// Perturbation sizes such as 2/255 or 0.1
    #[arg(long, required = true, num_args = 1.., value_name = "SIZE")]
    pub(crate) eps: Vec<experiments::recipe::Eps>,
    /// Task by name
    #[arg(long, default_value = "cifar10")]
    pub(crate) task: String,
    /// Folder with the datasets; then $TERNION_DATA and the user's cache are searched
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Test samples
    #[arg(long, default_value_t = 1000)]
    pub(crate) samples: usize,
    /// Seed of everything random
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Attack the deployed integer program instead of the trained network
    #[arg(long)]
    pub(crate) integer: bool,
    /// What the gradients of flat quantizers are: clipped, identity or leaky. With --integer they are those of the trained
    /// network (BPDA), and gradient attacks run on the integer program
    #[arg(long, value_name = "SURROGATE")]
    pub(crate) gradients: Option<attacks::Passing>,
    /// Make the examples on this model instead, such as a float twin, and judge them on the one attacked (transfer)
    #[arg(long, value_name = "MODEL")]
    pub(crate) from: Option<PathBuf>,
    /// Audit the robustness at the first size as well
    #[arg(long)]
    pub(crate) audit: bool,
    /// Keep the examples of the last size as 8-bit npz
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// As JSON lines
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyAdversarialArgs {
    /// Examples kept by `ternion attack --out`
    pub(crate) file: PathBuf,
    /// Model file: our own, or a safetensors export of ours
    pub(crate) model: PathBuf,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The format of OUT follows from its name: `.safetensors`, else our own.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ternion convert model.qnn model.safetensors                          for PyTorch, NumPy and others
  ternion convert float.safetensors start.qnn --network resnet8        weights with our names, PyTorch's or Keras'
  ternion convert float.safetensors start.qnn --network ds_cnn --twin stq
  ternion convert mlperf_tiny_resnet8.safetensors resnet8.qnn --network resnet8 --raw")]
pub(crate) struct ConvertArgs {
    /// Model file, or safetensors
    pub(crate) from: PathBuf,
    /// File to write
    #[arg(value_name = "OUT")]
    pub(crate) to: PathBuf,
    /// Network of the zoo that takes the weights; needed unless FROM is a file of ours
    #[arg(long, value_name = "NAME")]
    pub(crate) network: Option<String>,
    /// Precision of that network
    #[arg(long, value_enum, requires = "network")]
    pub(crate) twin: Option<TwinArg>,
    /// That network takes codes 0 to 255 as they are, as MLPerf Tiny's ResNet does
    #[arg(long, requires = "network")]
    pub(crate) raw: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum PartArg {
    /// What the network learned from, not augmented
    Train,
    /// What its best epoch was chosen by
    Validation,
    /// What results are reported on
    Test,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ternion summary stq_image_s                        a network of the zoo, with the quantizers it is named after
  ternion summary resnet8 --twin eight_bit --json    another precision, as JSON
  ternion summary out/cache/train-KEY/model.qnn      a model: with statistics of its quantized kernels")]
pub(crate) struct SummaryArgs {
    /// Model file, or the name of a network
    pub(crate) model: String,
    /// Precision of a named network
    #[arg(long, value_enum)]
    pub(crate) twin: Option<TwinArg>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum TwinArg {
    /// Stochastic ternary weights, 8-bit activations
    Stq,
    /// The same, never sampled
    StqDeterministic,
    /// Stochastic binary weights, 8-bit activations
    StochasticBinary,
    /// 8-bit weights and activations
    EightBit,
    /// Float weights and ReLU
    Float,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Folder with results.jsonl
    #[arg(long, value_name = "DIR", default_value = "out")]
    pub(crate) out: PathBuf,
    /// Show the rows of this profile; the largest there is by default
    #[arg(long, value_enum)]
    pub(crate) profile: Option<ProfileArg>,
}

#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    pub(crate) action: DataAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DataAction {
    /// List tasks and releases, where files are looked for and whether they are there
    List(DataPlace),
    /// Download releases: resumed where interrupted, checked against the manifest
    Fetch(FetchArgs),
    /// Check the files that are there against the manifests, and load every task
    Verify(DataPlace),
    /// Describe one task (splits, classes, checksum) and draw a sheet of samples
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DataPlace {
    /// Folder with the datasets
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Task by name, such as cifar10 or speech_commands_5fold(fold=0)
    pub(crate) task: String,
    #[command(flatten)]
    pub(crate) place: DataPlace,
    /// File for the sheet; TASK.png by default
    #[arg(long, value_name = "FILE")]
    pub(crate) png: Option<PathBuf>,
    /// Samples of each class on the sheet
    #[arg(long, value_name = "N", default_value_t = 12)]
    pub(crate) columns: usize,
    /// Draw the features a network sees, not the spectrograms of spoken words
    #[arg(long)]
    pub(crate) features: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ternion data fetch cifar10                              into $TERNION_DATA, or the user's cache
  ternion data fetch speech_commands speech_commands_test --data ~/data --unpack
  ternion data fetch svhn --mirror http://mirror.example/housenumbers

Exit codes: 0 everything is there and checked, 1 it is not, 2 wrong usage.")]
pub(crate) struct FetchArgs {
    /// Releases by name; `ternion data list` has them
    #[arg(required = true, value_name = "RELEASE")]
    pub(crate) release: Vec<String>,
    #[command(flatten)]
    pub(crate) place: DataPlace,
    /// Address of a folder with the archives, in place of the official addresses; checksums stay the official ones
    #[arg(long, value_name = "URL")]
    pub(crate) mirror: Option<String>,
    /// Use no network: check what is there, and say what is not
    #[arg(long)]
    pub(crate) offline: bool,
    /// Unpack archives too; not needed, they are read as they are, but folders load faster
    #[arg(long)]
    pub(crate) unpack: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ModelArg {
    /// Model file, such as OUT/cache/train-…/model.qnn, or `NETWORK[:TWIN]` for a network of the zoo with weights at random,
    /// such as resnet8:eight_bit
    pub(crate) model: String,
}

#[derive(Debug, Args)]
pub(crate) struct AnalyzeArgs {
    #[command(flatten)]
    pub(crate) model: ModelArg,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The exports need nothing of Ternion. Each comes with inputs and the logits expected for them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ternion export model.qnn --c firmware/net          net.c, net.h and net_selftest.c
  ternion export model.qnn --rust net --onnx net.onnx
  ternion export stq_image_s --c out                 a network of the zoo, to see what the code looks like")]
#[group(required = true, multiple = true, args = ["c", "rust", "onnx"])]
pub(crate) struct ExportArgs {
    /// Model file or `NETWORK[:TWIN]`
    pub(crate) model: String,
    /// Folder for NAME.c, NAME.h and NAME_selftest.c
    #[arg(long, value_name = "DIR")]
    pub(crate) c: Option<PathBuf>,
    /// Folder for a crate
    #[arg(long, value_name = "DIR")]
    pub(crate) rust: Option<PathBuf>,
    /// ONNX file
    #[arg(long, value_name = "FILE")]
    pub(crate) onnx: Option<PathBuf>,
}

/// Builds and runs the exports where the tools are there, and says what is missing where not.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ternion validate model.qnn                         model image, C, Rust and ONNX on this machine
  ternion validate model.qnn --qemu                  C and Rust on an emulated Cortex-M4, instructions per layer

Exit codes: 0 every export that could run gives equal logits, 1 one differs or failed, 2 wrong usage.")]
pub(crate) struct ValidateArgs {
    #[command(flatten)]
    pub(crate) model: ModelArg,
    /// On an emulated Cortex-M4 instead of this machine
    #[arg(long)]
    pub(crate) qemu: bool,
    /// Fail where a tool is missing
    #[arg(long)]
    pub(crate) strict: bool,
    /// Keep the exports in this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Per sample: margin, Frobenius and spectral norm of the input Jacobian, first-order robustness radii. Per layer: norms of the
/// Jacobians of logits, activations and neighbours. Two models, such as a network and its float twin, show what
/// quantization does to them. Gradients of quantized layers go through their surrogates.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ternion jacobian out/cache/train-…/model.qnn                    one model on CIFAR-10
  ternion jacobian stq.qnn float.qnn --samples 500                a network and its float twin
  ternion jacobian model.qnn --task speech_commands --json        every sample, as JSON lines")]
pub(crate) struct JacobianArgs {
    /// Model files
    #[arg(required = true)]
    pub(crate) model: Vec<PathBuf>,
    /// Task whose test samples are used
    #[arg(long, default_value = "cifar10")]
    pub(crate) task: String,
    /// Test samples, at least 32
    #[arg(long, default_value_t = 256)]
    pub(crate) samples: usize,
    /// Folder with the datasets
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// As JSON lines, one per model
    #[arg(long)]
    pub(crate) json: bool,
}

/// One line per case, then the counts. A disagreement, an unreadable folder or a case of unknown kind is a failure.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ternion conformance --dir oracle                   every folder of reference cases below `oracle`
  ternion conformance --dir a --dir b --json         JSON lines; the last one has the counts

Exit codes: 0 all agree, 1 a case failed, 2 wrong usage.")]
pub(crate) struct ConformanceArgs {
    /// Folder with reference cases, searched at any depth; may be repeated
    #[arg(long, value_name = "DIR", num_args = 1.., required = true)]
    pub(crate) dir: Vec<PathBuf>,
    /// As JSON lines
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ProfileArg {
    /// Minutes, on any data: proves that every stage runs
    Smoke,
    /// Half an hour on two cores, on real data
    Quick,
    /// Hours: the study at the paper's size
    Full,
}

impl From<ProfileArg> for Profile {
    fn from(arg: ProfileArg) -> Self {
        match arg {
            ProfileArg::Smoke => Self::Smoke,
            ProfileArg::Quick => Self::Quick,
            ProfileArg::Full => Self::Full,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

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
