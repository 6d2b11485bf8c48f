//! Ranks as threads of this process: to c10d they are as good as processes.

use std::{thread, time::Duration};
use tch::{Device, Kind, Tensor};
use tch_ext::distributed::{ProcessGroup, Reducer, Store};

const SECONDS: Duration = Duration::from_secs(20);

/// What `rank_is` returns for each of `n` ranks, which run side by side.
fn ranks<T: Send>(n: usize, rank_is: impl Fn(ProcessGroup) -> T + Sync) -> Vec<T> {
    let host = Store::host(0).unwrap();
    let port = host.port();
    let join = |rank| {
        let store = Store::connect("127.0.0.1", port, "test", SECONDS).unwrap();
        ProcessGroup::join(&store, rank, n, Device::Cpu, "127.0.0.1", SECONDS).unwrap()
    };
    thread::scope(|scope| {
        let (join, rank_is) = (&join, &rank_is);
        let spawn = |rank| scope.spawn(move || rank_is(join(rank)));
        let threads: Vec<_> = (0..n).map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten(0, -1).try_into().unwrap()
}

#[test]
fn a_store_is_a_table_that_all_see() {
    let host = Store::host(0).unwrap();
    let client = |prefix| Store::connect("127.0.0.1", host.port(), prefix, SECONDS).unwrap();
    let (a, b, other) = (client("a"), client("a"), client("other"));
    assert!(!a.has("word").unwrap());
    a.set("word", "fox → 狐").unwrap();
    assert_eq!(b.get("word").unwrap(), "fox → 狐");
    assert!(!other.has("word").unwrap());
    assert_eq!((a.add("n", 2).unwrap(), b.add("n", 3).unwrap()), (2, 5));
    assert!(a.set("a\0b", "").unwrap_err().to_string().contains("zero byte"));
}

#[test]
fn what_nobody_writes_is_an_error_and_a_port_is_taken_once() {
    let host = Store::host(0).unwrap();
    let short = Duration::from_millis(300);
    let client = Store::connect("127.0.0.1", host.port(), "", short).unwrap();
    assert!(client.get("word").is_err());
    let taken = Store::host(host.port()).err().unwrap().to_string();
    assert!(taken.contains("address already in use"), "{taken}");
    let port = host.port();
    drop((client, host));
    assert!(Store::connect("127.0.0.1", port, "", short).is_err());
}

#[test]
fn tensors_are_given_out_summed_and_gathered() {
    for n in [1, 2, 3] {
        let results = ranks(n, |group| {
            let mine = Tensor::from_slice(&[1.0f32, 2.0]) * (group.rank() as f64 + 1.0);
            let parameter = mine.copy().set_requires_grad(true);
            group.broadcast(&[parameter.shallow_clone()]).unwrap();
            let mut sum = mine.copy();
            group.all_reduce(&mut sum).unwrap();
            let all = group.all_gather(&mine).unwrap();
            assert_eq!(all.size(), [n as i64, 2]);
            (numbers(&parameter), numbers(&sum), numbers(&all))
        });
        let total = (n * (n + 1) / 2) as f64;
        let all: Vec<f64> = (1..=n).flat_map(|rank| [rank as f64, 2.0 * rank as f64]).collect();
        for result in results {
            assert_eq!(result, (vec![1.0, 2.0], vec![total, 2.0 * total], all.clone()));
        }
    }
}

#[test]
fn tensors_of_different_dtypes_are_given_out_at_once() {
    let kinds = [Kind::Float, Kind::Uint8, Kind::Float, Kind::Int64, Kind::Uint8];
    let results = ranks(2, |group| {
        let tensor =
            |kind| Tensor::arange(10, (kind, Device::Cpu)).view([2, 5]) * (1 - group.rank() as i64);
        let tensors = kinds.map(tensor);
        group.broadcast(&tensors).unwrap();
        tensors.iter().map(numbers).collect::<Vec<_>>()
    });
    let expected: Vec<f64> = (0..10).map(f64::from).collect();
    for result in results {
        assert_eq!(result, vec![expected.clone(); kinds.len()]);
    }
}

#[test]
fn what_one_sends_another_receives() {
    let results = ranks(2, |group| {
        let mut tensor = Tensor::arange(3, (Kind::Float, Device::Cpu));
        match group.rank() {
            0 => group.send(&(tensor + 5.0), 1).map(|()| Vec::new()).unwrap(),
            _ => {
                group.receive(&mut tensor, 0).unwrap();
                numbers(&tensor)
            }
        }
    });
    assert_eq!(results[1], [5.0, 6.0, 7.0]);
}

/// Parameters of more than one bucket, whose gradient is the same for every element: the rank's number + 1.
fn parameters() -> Vec<Tensor> {
    let new = |n| Tensor::zeros([n], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    vec![new(10), new(400_000), new(3)]
}

fn backward(parameters: &[Tensor], rank: usize) {
    let sums: Vec<Tensor> = parameters.iter().map(|p| p.sum(Kind::Float)).collect();
    (Tensor::stack(&sums, 0).sum(Kind::Float) * (rank as f64 + 1.0)).backward();
}

#[test]
fn gradients_become_the_mean_when_asked_and_accumulate_when_not() {
    let results = ranks(2, |group| {
        let parameters = parameters();
        let reducer = Reducer::new(&group, &parameters).unwrap();
        let grad = || parameters.iter().map(|p| p.grad().double_value(&[0])).collect::<Vec<_>>();
        backward(&parameters, group.rank()); // not asked
        let alone = grad();
        reducer.prepare_for_backward().unwrap();
        backward(&parameters, group.rank());
        (alone, grad())
    });
    // Ranks 0 and 1 have gradients of 1 and 2, twice: their mean is 3.
    assert_eq!(results, [(vec![1.0; 3], vec![3.0; 3]), (vec![2.0; 3], vec![3.0; 3])]);
}

#[test]
fn a_rank_that_leaves_is_an_error_to_the_other() {
    let results = ranks(2, |group| {
        drop(group.all_gather(&Tensor::ones([1], tch::kind::FLOAT_CPU)).unwrap()); // both were there
        if group.rank() == 1 {
            return None;
        }
        thread::sleep(Duration::from_millis(300));
        Some(group.all_reduce(&mut Tensor::ones([2], tch::kind::FLOAT_CPU)).is_err())
    });
    assert_eq!(results, [Some(true), None]);
}

#[test]
fn what_cannot_be_is_refused() {
    let store = Store::host(0).unwrap();
    let join = |rank, n, address: &str| {
        ProcessGroup::join(&store, rank, n, Device::Cpu, address, SECONDS)
            .err()
            .map(|e| e.to_string())
    };
    assert_eq!(join(2, 2, "127.0.0.1").unwrap(), "there is no rank 2 among 2");
    assert!(join(0, 1, "no.such.host.invalid").is_some());
    let group = ProcessGroup::join(&store, 0, 1, Device::Cpu, "127.0.0.1", SECONDS).unwrap();
    assert!(Reducer::new(&group, &[]).is_err());
    let no_grad = Tensor::ones([2], tch::kind::FLOAT_CPU);
    assert!(Reducer::new(&group, &[no_grad]).is_err());
}
