use super::meeting::Place;
use crate::run;
use anyhow::{Result, anyhow, bail, ensure};
use serde::{Serialize, de::DeserializeOwned};
use std::{cell::Cell, time::Duration};
use tch::{Device, Tensor};
use tch_ext::distributed::{self, ProcessGroup, Store};

/// How long a rank waits for another's part: rank 0 may write samples or a file meanwhile.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// All ranks together, as one of them sees them. All call its functions, in the same order.
pub struct World {
    /// Which rank this process is, from 0 on.
    pub rank: i64,
    /// How many ranks there are.
    pub size: i64,
    /// Where tensors have to be to be sent: on a GPU if the ranks compute there.
    device: Device,
    /// `None` if this process is alone.
    met: Option<Met>,
}

struct Met {
    group: ProcessGroup,
    store: Store,
    /// How often something was shared.
    shared: Cell<usize>,
    _host: Option<Store>, // others may still ask
}

impl World {
    /// This process by itself: nothing is sent, and what one would get from others is its own.
    pub fn alone(device: Device) -> Self {
        Self { rank: 0, size: 1, device, met: None }
    }

    pub(super) fn join(
        place: &Place,
        store: Store,
        host: Option<Store>,
        device: Device,
        address: &str,
    ) -> Result<Self> {
        let (rank, size) = (place.rank, place.world_size);
        let group = ProcessGroup::join(&store, rank, size, device, address, PATIENCE)
            .map_err(while_meeting)?;
        let device = if device.is_cuda() { device } else { Device::Cpu };
        let met = Some(Met { group, store, shared: Cell::new(0), _host: host });
        Ok(Self { rank: rank as i64, size: size as i64, device, met })
    }

    /// Refuses ranks that were started with different settings, `name: value` after `name: value` as `Debug`
    /// writes them.
    ///
    /// # Errors
    /// What differs, in a sentence, on every rank.
    pub fn agree(&self, settings: &str) -> Result<()> {
        let Some(Met { store, .. }) = &self.met else { return Ok(()) };
        let key = |rank| format!("nanogpt/settings/{rank}");
        store.set(&key(self.rank), settings).map_err(lost)?;
        let first = store.get(&key(0)).map_err(lost)?;
        let mut disagreement = None;
        for rank in 1..self.size {
            let differences = differences(&first, &store.get(&key(rank)).map_err(lost)?);
            if !differences.is_empty() {
                disagreement.get_or_insert(format!("rank {rank} has {differences}"));
            }
        }
        // No rank leaves before all have read: one of them keeps the store.
        if self.any(disagreement.is_some())? {
            let who = disagreement.unwrap_or_default();
            bail!("the ranks do not agree, so start all with the same flags: {who}");
        }
        Ok(())
    }

    /// Gives all ranks rank 0's values of these tensors.
    ///
    /// # Errors
    /// If a rank is gone.
    pub fn broadcast(&self, tensors: &[Tensor]) -> Result<()> {
        let Some(Met { group, .. }) = &self.met else { return Ok(()) };
        // GPUs talk about what is on them; what is elsewhere makes a journey.
        let on_device: Vec<Tensor> = tensors.iter().map(|tensor| tensor.to(self.device)).collect();
        group.broadcast(&on_device).map_err(lost)?;
        let _guard = tch::no_grad_guard();
        for (tensor, on_device) in tensors.iter().zip(on_device) {
            if tensor.device() != self.device {
                tensor.shallow_clone().copy_(&on_device);
            }
        }
        Ok(())
    }

    /// All ranks' tensors, in their order: (…) → (size, …). The same shape and dtype on all.
    ///
    /// # Errors
    /// If a rank is gone.
    pub fn all_gather(&self, tensor: &Tensor) -> Result<Tensor> {
        match &self.met {
            Some(Met { group, .. }) => {
                let all = group.all_gather(&tensor.to(self.device)).map_err(lost)?;
                Ok(all.to(tensor.device()))
            }
            None => Ok(tensor.unsqueeze(0)),
        }
    }

    /// What `make` makes on rank 0, on all ranks.
    ///
    /// # Errors
    /// Rank 0's own, on rank 0; on the others that rank 0 is gone.
    pub fn share<T: Serialize + DeserializeOwned>(
        &self,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let Some(Met { store, shared, .. }) = &self.met else { return make() };
        let key = format!("nanogpt/shared/{}", shared.replace(shared.get() + 1));
        if self.rank == 0 {
            let value = make();
            if let Ok(value) = &value {
                store.set(&key, &serde_json::to_string(value)?).map_err(lost)?;
            }
            let told = self.any(value.is_err());
            return value.and_then(|value| told.map(|_| value));
        }
        // The store waits no longer than ranks do to meet. The group is patient, and notices when rank 0 is gone.
        ensure!(!self.any(false)?, run::lost("rank 0 has failed"));
        Ok(serde_json::from_str(&store.get(&key).map_err(lost)?)?)
    }

    /// Whether it is so on any rank, the same on all of them.
    ///
    /// # Errors
    /// If a rank is gone.
    pub fn any(&self, is_so: bool) -> Result<bool> {
        Ok(self.gather_as_many(&[f64::from(is_so)])?.contains(&1.0))
    }

    /// What makes the ranks' gradients of these parameters their mean.
    ///
    /// # Errors
    /// If a rank is gone, or has other parameters.
    pub fn reducer(&self, parameters: &[Tensor]) -> Result<Reducer> {
        let reducer =
            self.met.as_ref().map(|met| distributed::Reducer::new(&met.group, parameters));
        Ok(Reducer(reducer.transpose().map_err(lost)?))
    }

    /// The mean of all ranks' numbers, the same on all of them.
    ///
    /// # Errors
    /// If a rank is gone.
    pub fn mean(&self, x: f64) -> Result<f64> {
        let all = self.gather_as_many(&[x])?;
        Ok(all.iter().sum::<f64>() / all.len() as f64)
    }

    /// All ranks' numbers, those of rank 0 first. Ranks may have different numbers of them.
    ///
    /// # Errors
    /// If a rank is gone.
    pub fn gather(&self, numbers: &[f64]) -> Result<Vec<f64>> {
        let counts = self.gather_as_many(&[numbers.len() as f64])?;
        let most = counts.iter().copied().fold(0.0, f64::max) as usize;
        let mut padded = numbers.to_vec();
        padded.resize(most, 0.0);
        let all = self.gather_as_many(&padded)?;
        let ranks = all.chunks(most.max(1)).zip(counts);
        Ok(ranks.flat_map(|(numbers, n)| numbers[..n as usize].to_vec()).collect())
    }

    /// All ranks' numbers, of which each has as many.
    fn gather_as_many(&self, numbers: &[f64]) -> Result<Vec<f64>> {
        let Some(Met { group, .. }) = &self.met else { return Ok(numbers.to_vec()) };
        if numbers.is_empty() {
            return Ok(Vec::new());
        }
        let all = group.all_gather(&Tensor::from_slice(numbers).to(self.device)).map_err(lost)?;
        Ok(all.flatten(0, -1).try_into()?)
    }

    /// For sums of one's own; `None` if this process is alone.
    pub fn group(&self) -> Option<&ProcessGroup> {
        self.met.as_ref().map(|met| &met.group)
    }
}

/// Makes the gradients of all ranks their mean, during backward; alone, it leaves them as they are.
pub struct Reducer(Option<distributed::Reducer>);

impl Reducer {
    /// The next backward pass leaves the mean of all ranks' gradients. A pass without this call before it
    /// adds to this rank's own alone.
    ///
    /// # Panics
    /// If the pass before has not reached every parameter.
    pub fn average_next_backward(&self) {
        if let Some(reducer) = &self.0 {
            reducer.prepare_for_backward().expect("every pass reaches every parameter");
        }
    }
}

pub(super) fn lost(error: tch_ext::Error) -> anyhow::Error {
    anyhow!(run::lost(&error.to_string()))
}

/// A rank that met the others first may have failed before the last has met it.
fn while_meeting(error: tch_ext::Error) -> anyhow::Error {
    match error.to_string().contains("Connection closed by peer") {
        true => lost(error),
        false => error.into(),
    }
}

/// Where two settings differ, both as `{:?}` prints them: `batch_size: 8 instead of batch_size: 4`.
pub fn differences(first: &str, other: &str) -> String {
    let fields = |settings: &str| -> Vec<String> {
        let field = |field: &str| {
            let field = field.rsplit("{ ").next().unwrap_or(field);
            field.trim_matches([' ', '}', ')', '(']).to_string()
        };
        settings.split(", ").map(field).collect()
    };
    let different = fields(first).into_iter().zip(fields(other)).filter(|(a, b)| a != b);
    let said: Vec<String> =
        different.map(|(first, other)| format!("{other} instead of {first}")).collect();
    said.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_differ_are_named() {
        let recipe = |b, n| format!("Recipe {{ batch_size: {b}, max_steps: {n} }}");
        assert_eq!(differences(&recipe(4, 8), &recipe(4, 8)), "");
        assert_eq!(
            differences(&recipe(4, 8), &recipe(2, 8)),
            "batch_size: 2 instead of batch_size: 4"
        );
        let nested = |b| format!("({}, [7], Settings {{ ranks: {b} }})", recipe(b, 8));
        let said = differences(&nested(1), &nested(2));
        assert_eq!(said, "batch_size: 2 instead of batch_size: 1, ranks: 2 instead of ranks: 1");
        let both = "batch_size: 4 instead of batch_size: 2, max_steps: 9 instead of max_steps: 8";
        assert_eq!(differences(&recipe(2, 8), &recipe(4, 9)), both);
    }
}
