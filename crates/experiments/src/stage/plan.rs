//! The plan of a study: every stage of every run with its key, made before anything is computed.
use datasets::Task;
use serde::Serialize;
use serde_json::{Value, json};

use super::estimate::Estimate;
use super::key::{Key, digest};
use super::parts::covers;
use super::shard::Shard;
use super::store::{EntryId, Lookup, Store};
use super::{Options, Stage};
use crate::error::StudyError;
use crate::pipeline::{DataCard, Engine, Job, NetworkCard};
use crate::recipe::{AttackPart, Recipe};

/// One line of a plan: a stage of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// The stage.
    pub stage: Stage,
    /// The attack's text form, for an attack.
    pub attack: Option<String>,
    /// Key over all inputs.
    pub key: Key,
    /// Part computed here, for an attack.
    pub part: Option<Shard>,
    /// Whether a verified result is there.
    pub cached: bool,
    /// Rough seconds, 0 if cached.
    pub estimate: f64,
    /// Everything the key was computed from.
    #[serde(skip)]
    pub inputs: Value,
}

impl Step {
    /// The name of its result in the cache.
    pub fn id(&self) -> EntryId {
        EntryId { stage: self.stage, key: self.key.clone(), part: self.part }
    }
}

/// One run of a recipe: one fold, one seed.
#[derive(Clone, Debug, Serialize)]
pub struct Unit {
    /// Name in messages and file names: `stq_audio_s/fold0/seed1`.
    pub name: String,
    /// Its stages in running order, one step per attack.
    pub steps: Vec<Step>,
    /// Seed of everything random.
    pub seed: u64,
    /// Task asked for.
    pub task: Task,
    /// Fold held out.
    pub fold: Option<u8>,
    /// The data found.
    pub data: DataCard,
    /// The network to train.
    pub network: NetworkCard,
    /// The recipe as resolved for the profile.
    pub recipe: Recipe,
}

impl Unit {
    /// The job as engines see it.
    pub fn job(&self) -> Job<'_> {
        Job { recipe: &self.recipe, task: self.task, data: &self.data, seed: self.seed }
    }

    /// Steps of one stage.
    pub fn steps_of(&self, stage: Stage) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(move |step| step.stage == stage)
    }

    /// Test samples for clean accuracy.
    pub fn clean_selection(&self) -> Vec<u32> {
        select(&self.data.test_ids, self.recipe.evaluate.samples)
    }

    /// Test samples for an attack.
    pub fn attack_selection(&self, attack: &AttackPart) -> Vec<u32> {
        select(&self.data.test_ids, attack.samples.or(self.recipe.evaluate.attack_samples))
    }

    /// Test samples for the audit.
    pub fn audit_selection(&self) -> Vec<u32> {
        let evaluate = &self.recipe.evaluate;
        select(&self.data.test_ids, evaluate.audit_samples.or(evaluate.attack_samples))
    }
}

/// Everything a study will do.
#[derive(Debug, Default, Serialize)]
pub struct Plan {
    /// Runs that can start.
    pub units: Vec<Unit>,
    /// Runs that cannot, and why.
    #[serde(skip)]
    pub refused: Vec<(String, StudyError)>,
}

impl Plan {
    /// Makes the plan: finds data, describes networks, computes keys, looks into the cache.
    pub fn new(engine: &dyn Engine, store: &Store, options: &Options) -> Self {
        let mut plan = Self::default();
        for set in &options.recipes {
            let mut recipe = set.get(options.profile).clone();
            if let Some(seed) = options.seed {
                recipe.seeds = vec![seed];
            }
            let folds: Vec<Option<u8>> = match recipe.dataset.folds.as_slice() {
                [] => vec![None],
                folds => folds.iter().copied().map(Some).collect(),
            };
            for fold in folds {
                for &seed in &recipe.seeds {
                    let name = match fold {
                        None => format!("{}/seed{seed}", recipe.name),
                        Some(fold) => format!("{}/fold{fold}/seed{seed}", recipe.name),
                    };
                    match unit(engine, store, options, &recipe, &name, fold, seed) {
                        Ok(unit) => plan.units.push(unit),
                        Err(error) => plan.refused.push((name, error)),
                    }
                }
            }
        }
        plan
    }
}

fn unit(
    engine: &dyn Engine,
    store: &Store,
    options: &Options,
    recipe: &Recipe,
    name: &str,
    fold: Option<u8>,
    seed: u64,
) -> Result<Unit, StudyError> {
    let dataset = &recipe.dataset;
    let task = fold.map_or(dataset.task, |fold| Task::SpeechCommands5Fold { fold });
    let data = engine.data(&task)?;
    let network = engine.network(&Job { recipe, task, data: &data, seed })?;
    let (name, recipe) = (name.to_owned(), recipe.clone());
    let mut unit = Unit { name, steps: Vec::new(), seed, task, fold, data, network, recipe };
    let recipe = &unit.recipe;
    let dataset = &recipe.dataset;
    let estimate = Estimate::new(recipe, &unit.network);
    let mut steps = Vec::new();
    let mut add = |stage, attack: Option<(String, Shard, &[u32])>, inputs: Value, seconds: f64| {
        let key = Key::of(stage, &inputs);
        let id = EntryId { stage, key: key.clone(), part: attack.as_ref().map(|(_, shard, _)| *shard) };
        let mut cached = matches!(store.lookup(&id)?, Lookup::Hit(_));
        if let Some((_, _, ids)) = attack {
            cached = cached || covers(store, &key, ids)?;
        }
        let estimate = if cached { 0.0 } else { seconds };
        let attack = attack.map(|(form, _, _)| form);
        steps.push(Step { stage, attack, key: key.clone(), part: id.part, cached, estimate, inputs });
        Ok::<Key, StudyError>(key)
    };
    let data = &unit.data;
    let data_key = add(Stage::Data, None, json!({"data": data.name, "checksum": data.checksum}), 0.0)?;
    let train_samples = dataset.train_samples.map_or(data.counts[0], |n| n.min(data.counts[0]));
    let mut train_inputs = json!({
        "data": data_key, "train_samples": train_samples,
        "validation_samples": dataset.validation_samples, "network": unit.network.description,
        "sensitivity": recipe.network.sensitivity,
        "jacobian": recipe.jacobian, "optimizer": recipe.optimizer, "schedule": recipe.schedule,
        "augmentation": recipe.augmentation, "seed": seed,
    });
    if let Some(adversarial) = &recipe.adversarial {
        // Only where there is one, so that other results keep their keys.
        train_inputs["adversarial"] = json!(adversarial);
    }
    if let Some(start) = &recipe.network.start {
        // What the file holds, wherever it lies.
        train_inputs["start"] = json!(start.sha256.to_lowercase());
    }
    // Left out where there is none, so that recipes without it keep what they have cached.
    if !recipe.curvature.is_empty() {
        train_inputs["curvature"] = json!(recipe.curvature);
    }
    let train = add(Stage::Train, None, train_inputs, estimate.train(train_samples))?;
    let clean = unit.clean_selection();
    let clean_inputs = json!({"train": train, "samples": digest_ids(&clean)});
    add(Stage::Evaluate, None, clean_inputs.clone(), estimate.forward(clean.len(), 1.0))?;
    let shard = options.shard.unwrap_or(Shard::WHOLE);
    let mut attack_keys = Vec::new();
    for attack in &recipe.attacks {
        let form = attack.attack.to_string();
        let selection = unit.attack_selection(attack);
        let inputs = json!({
            "train": train, "attack": form, "seed": seed, "samples": digest_ids(&selection),
            "eps": attack.eps.iter().map(|e| e.value()).collect::<Vec<_>>(),
            "headline": attack.headline_eps(),
        });
        let here = shard.take(&selection);
        let seconds = estimate.attack(attack, here.len());
        attack_keys.push(add(Stage::Attack, Some((form, shard, &here)), inputs, seconds)?);
    }
    let audited = unit.audit_selection();
    let audit_inputs = json!({
        "train": train, "attacks": attack_keys, "samples": digest_ids(&audited), "seed": seed,
        "steps": recipe.evaluate.audit_steps, "queries": recipe.evaluate.audit_queries,
    });
    add(Stage::Audit, None, audit_inputs, estimate.audit(audited.len()))?;
    add(Stage::Deploy, None, clean_inputs, estimate.forward(clean.len(), 2.0))?;
    unit.steps = steps;
    Ok(unit)
}

/// The first `count` of `ids` in an order that is the same for every recipe and seed, so that attacks are compared on
/// the same samples and a larger selection contains a smaller one. The order is that of each identifier's hash.
fn select(ids: &[u32], count: Option<usize>) -> Vec<u32> {
    let Some(count) = count.filter(|&count| count < ids.len()) else { return ids.to_vec() };
    let mut keyed: Vec<(String, u32)> = ids.iter().map(|id| (digest(&id.to_le_bytes()), *id)).collect();
    keyed.sort_unstable();
    keyed.into_iter().take(count).map(|(_, id)| id).collect()
}

fn digest_ids(ids: &[u32]) -> String {
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    format!("{} of sha-256 {}", ids.len(), digest(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_are_nested_and_complete() {
        let ids: Vec<u32> = (0..500).collect();
        let (small, large) = (select(&ids, Some(50)), select(&ids, Some(200)));
        assert_eq!(small[..], large[..50]);
        assert!(small.iter().filter(|id| **id < 250).count() > 10, "spread over the split");
        assert_eq!(select(&ids, None), ids);
        assert_eq!(select(&ids, Some(9999)), ids);
    }
}
