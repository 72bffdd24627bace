//! Attacks and the examples they leave: `attack`, `verify-adversarial`.
use std::path::PathBuf;

use clap::Args;

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
  ternion attack model.qnn --sampled --eot 20 --eps 2/255        kernels drawn anew in every pass, averaged over 20 draws
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
    /// Draw stochastic kernels anew in every pass, as in training: the network as a randomised defence
    #[arg(long, conflicts_with = "integer")]
    pub(crate) sampled: bool,
    /// Average logits and gradients over so many draws (expectation over transformation; auto-attack's `rand` version takes
    /// 20). A query is then such an average
    #[arg(long, value_name = "DRAWS", requires = "sampled", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) eot: Option<u16>,
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
