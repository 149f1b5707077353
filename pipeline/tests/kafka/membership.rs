//! Members of a group.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use highwater_pipeline::log::kafka::{KafkaConfig, KafkaLog, Property};
use highwater_pipeline::log::{Change, Log, LogError, Membership, TASKS_GROUP, TopicPartition};

use crate::world::{DEADLINE, World, assert_values, commit, effects, open, progress};

/// A member and what it owns. Follows the changes, giving up at once what is to be given up.
struct Worker {
    member: Box<dyn Membership>,
    owned: BTreeSet<TopicPartition>,
    /// Every partition that ever was taken away from it.
    given_up: BTreeSet<TopicPartition>,
}

impl Worker {
    async fn join(log: Arc<KafkaLog>, topics: &[Arc<str>]) -> Self {
        let topics = topics.iter().map(ToString::to_string).collect();
        Self { member: log.join(topics).await.unwrap(), owned: BTreeSet::new(), given_up: BTreeSet::new() }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Assigned(new) => {
                for partition in new {
                    assert!(self.owned.insert(partition.clone()), "{partition:?} was ours already");
                }
            }
            Change::Revoked { partitions, done } => {
                for partition in partitions {
                    assert!(self.owned.remove(&partition), "{partition:?} was not ours");
                    self.given_up.insert(partition);
                }
                drop(done);
            }
            Change::Lost(partitions) => {
                for partition in partitions {
                    self.owned.remove(&partition);
                    self.given_up.insert(partition);
                }
            }
        }
    }

    async fn follow_for(&mut self, time: Duration) {
        while let Ok(change) = tokio::time::timeout(time, self.member.next()).await {
            self.apply(change.unwrap());
        }
    }
}

/// Until every partition has exactly one owner and each worker has as many as it should.
async fn settle(workers: &mut [&mut Worker], counts: &[usize]) {
    let settled = async {
        loop {
            for worker in workers.iter_mut() {
                worker.follow_for(Duration::from_millis(50)).await;
            }
            let mut owned: Vec<_> = workers.iter().map(|w| w.owned.len()).collect();
            owned.sort_unstable();
            if owned == counts {
                break;
            }
        }
    };
    tokio::time::timeout(DEADLINE, settled).await.expect("the group settles");
    let all: BTreeSet<_> = workers.iter().flat_map(|w| w.owned.iter()).collect();
    assert_eq!(all.len(), counts.iter().sum::<usize>(), "nobody shares a partition");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_shared_and_those_that_stay_are_not_touched() {
    let Some(world) = World::new() else { return };
    let topics = [world.topic(4).await, world.topic(2).await];
    let mut first = Worker::join(world.log.clone(), &topics).await;
    settle(&mut [&mut first], &[6]).await;
    assert!(first.given_up.is_empty());

    let mut second = Worker::join(world.another(), &topics).await;
    settle(&mut [&mut first, &mut second], &[3, 3]).await;
    assert_eq!(first.given_up, second.owned, "what moved, and nothing else, was given up");

    let before: BTreeSet<_> = first.owned.clone();
    let mut third = Worker::join(world.another(), &topics).await;
    settle(&mut [&mut first, &mut second, &mut third], &[2, 2, 2]).await;
    assert!(first.owned.is_subset(&before));

    // One goes; the two others have everything again, and keep what they had.
    let (kept_first, kept_second) = (first.owned.clone(), second.owned.clone());
    tokio::time::timeout(Duration::from_secs(20), third.member.leave()).await.expect("leaving takes no timeout");
    settle(&mut [&mut first, &mut second], &[3, 3]).await;
    assert!(kept_first.is_subset(&first.owned) && kept_second.is_subset(&second.owned));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_owner_waits_until_the_work_is_done() {
    let Some(world) = World::new() else { return };
    let topics = [world.topic(2).await];
    let mut first = Worker::join(world.log.clone(), &topics).await;
    settle(&mut [&mut first], &[2]).await;
    let mut second = Worker::join(world.another(), &topics).await;
    let revoked = tokio::time::timeout(DEADLINE, first.member.next()).await.unwrap().unwrap();
    let Change::Revoked { partitions, done } = revoked else { panic!("{revoked:?}") };
    assert_eq!(partitions.len(), 1);
    second.follow_for(Duration::from_secs(3)).await;
    assert!(second.owned.is_empty(), "it is still being worked on");
    first.owned.remove(&partitions[0]);
    drop(done);
    settle(&mut [&mut first, &mut second], &[1, 1]).await;
    assert_eq!(second.owned.into_iter().collect::<Vec<_>>(), partitions);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_come_later_too() {
    let Some(world) = World::new() else { return };
    let topics = [world.topic(1).await, world.topic(3).await];
    let mut worker = Worker::join(world.log.clone(), &topics[..1]).await;
    settle(&mut [&mut worker], &[1]).await;
    worker.member.subscribe(topics.iter().map(ToString::to_string).collect()).await.unwrap();
    settle(&mut [&mut worker], &[4]).await;
    let unknown = world.log.clone().join(vec!["no-such-topic".into()]).await;
    assert!(unknown.is_err());
}

/// A process with a name of its own, whose partitions wait for it for as long as a session lasts.
fn named(world: &World, name: &str) -> Arc<KafkaLog> {
    let mut config = KafkaConfig { instance_id: Some(name.to_owned()), ..world.config.clone() };
    config.options.insert("session.timeout.ms".into(), Property::Number(8000));
    open(&config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_named_member_that_comes_back_moves_nothing_and_one_that_does_not_is_replaced() {
    let Some(world) = World::new() else { return };
    let (input, out) = (world.topic(2).await, world.topic(1).await);
    let topics = [input.clone()];
    let (log_a, log_b) = (named(&world, "a"), named(&world, "b"));
    let mut a = Worker::join(log_a.clone(), &topics).await;
    let mut b = Worker::join(log_b.clone(), &topics).await;
    settle(&mut [&mut a, &mut b], &[1, 1]).await;
    let (had, given_up) = (a.owned.clone(), b.given_up.clone());
    let task: Arc<str> = format!("{input}/{}", had.first().unwrap().partition).into();
    let epoch = log_a.begin_task(&task).await.unwrap();
    // Committed as a member, with the member's generation.
    log_a.commit_task(commit(&task, epoch, vec![effects(&task, epoch, &out, 0, &["a"])], 1)).await.unwrap();

    // Gone without a word, as by a crash, and back in time.
    a.member.leave().await;
    let again = named(&world, "a");
    let mut a = Worker::join(again.clone(), &topics).await;
    settle(&mut [&mut a, &mut b], &[1, 1]).await;
    assert_eq!(a.owned, had, "what it had waited for it");
    assert_eq!(b.given_up, given_up, "and the other one heard nothing");

    // Gone for good: the other one takes over once the session has run out.
    a.member.leave().await;
    settle(&mut [&mut b], &[2]).await;
    let epoch_b = log_b.begin_task(&task).await.unwrap();
    assert_eq!(epoch_b, 2);
    log_b.commit_task(commit(&task, epoch_b, vec![effects(&task, epoch_b, &out, 1, &["b"])], 2)).await.unwrap();
    // The first process still believes that the task is its own.
    let late = log_a.commit_task(commit(&task, epoch, vec![effects(&task, epoch, &out, 1, &["late"])], 2)).await;
    assert!(matches!(late, Err(LogError::Fenced { .. })), "{late:?}");
    assert_values(&log_b, &out, &["a", "b"]).await;
    assert_eq!(log_b.committed(TASKS_GROUP).await.unwrap(), [progress(&task, 2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_commit_while_the_group_is_moving() {
    let Some(world) = World::new() else { return };
    let (input, out) = (world.topic(4).await, world.topic(1).await);
    let topics = [input.clone()];
    let mut first = Worker::join(world.log.clone(), &topics).await;
    settle(&mut [&mut first], &[4]).await;
    let task: Arc<str> = format!("{input}/0").into();
    let epoch = world.log.begin_task(&task).await.unwrap();
    let (log, of, to) = (world.log.clone(), task.clone(), out.clone());
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let committing = tokio::spawn(async move {
        let mut position = 0;
        while !stopped.load(std::sync::atomic::Ordering::SeqCst) {
            let value = position.to_string();
            let next = commit(&of, epoch, vec![effects(&of, epoch, &to, position, &[&value])], position + 1);
            match log.commit_task(next).await {
                Ok(_) => position += 1,
                // Its partition was handed on, which ends the run.
                Err(LogError::Fenced { .. }) => break,
                Err(error) => assert!(error.is_retryable(), "a generation that is over passes: {error}"),
            }
        }
        position
    });
    for _ in 0..2 {
        let mut second = Worker::join(world.another(), &topics).await;
        settle(&mut [&mut first, &mut second], &[2, 2]).await;
        second.member.leave().await;
        settle(&mut [&mut first], &[4]).await;
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    let committed = committing.await.unwrap();
    assert!(committed > 0);
    let expected: Vec<_> = (0..committed).map(|i| i.to_string()).collect();
    assert_values(&world.log, &out, &expected).await;
}
