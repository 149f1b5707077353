//! Transactions of tasks.

use std::sync::Arc;
use std::time::Duration;

use highwater_pipeline::log::{CommittedOffset, EffectMark, Guard, Log, LogError, TASKS_GROUP};

use crate::world::{World, append, assert_values, commit, effects, progress, read_to_end};

async fn committed(log: &dyn Log, group: &str, task: &str) -> Option<CommittedOffset> {
    let wanted = progress(task, 0);
    let all = log.committed(group).await.unwrap();
    all.into_iter().find(|o| o.topic == wanted.topic && o.partition == wanted.partition)
}

async fn task(world: &World) -> Arc<str> {
    format!("{}/1", world.topic(2).await).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outputs_and_progress_become_visible_together() {
    let Some(world) = World::new() else { return };
    let (task, a, b) = (task(&world).await, world.topic(1).await, world.topic(1).await);
    let epoch = world.log.begin_task(&task).await.unwrap();
    assert_eq!(epoch, 1);
    assert_eq!(committed(&*world.log, TASKS_GROUP, &task).await, None);
    let appends = vec![
        effects(&task, epoch, &a, 4, &["a0", "a1"]),
        effects(&task, epoch, &b, 4, &["b0"]),
        effects(&task, epoch, &a, 5, &["a2"]),
    ];
    let done = world.log.commit_task(commit(&task, epoch, appends, 6)).await.unwrap();
    assert!(done.progressed);
    assert_eq!(done.suppressed, 0);
    assert_values(&world.log, &a, &["a0", "a1", "a2"]).await;
    assert_values(&world.log, &b, &["b0"]).await;
    assert_eq!(committed(&*world.log, TASKS_GROUP, &task).await, Some(progress(&task, 6)));
    // The group's name for everybody else is the configured one.
    let by_name = world.log.committed(&world.config.group).await.unwrap();
    assert_eq!(by_name, [progress(&task, 6)]);

    // Each record says what it is the effect of.
    let fetched = world.log.read(&a, 0, 0, 1 << 20, Duration::ZERO).await.unwrap();
    let marks: Vec<_> = fetched.records.iter().map(|r| r.header("highwater-effect").unwrap().clone()).collect();
    assert_eq!(marks[0], format!("{task}\0{epoch}\x004\x000"));
    assert_eq!(marks[1], format!("{task}\0{epoch}\x004\x001"));
    assert_eq!(marks[2], format!("{task}\0{epoch}\x005\x000"));

    // Nothing to do is nothing done.
    let mut idle = commit(&task, epoch, vec![], 9);
    idle.progress_due = false;
    assert!(!world.log.commit_task(idle).await.unwrap().progressed);
    assert_eq!(committed(&*world.log, TASKS_GROUP, &task).await.unwrap().offset, 6);
    world.log.commit_task(commit(&task, epoch, vec![], 9)).await.unwrap();
    assert_eq!(committed(&*world.log, TASKS_GROUP, &task).await.unwrap().offset, 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_commit_leaves_nothing_and_the_run_goes_on() {
    let Some(world) = World::new() else { return };
    let (task, out) = (task(&world).await, world.topic(1).await);
    let epoch = world.log.begin_task(&task).await.unwrap();
    let too_large = "x".repeat(33 << 20);
    let appends = vec![effects(&task, epoch, &out, 0, &["small"]), effects(&task, epoch, &out, 1, &[&too_large])];
    let error = world.log.commit_task(commit(&task, epoch, appends, 2)).await.unwrap_err();
    assert!(!error.is_retryable() && error.to_string().contains("larger"), "{error}");
    assert_eq!(committed(&*world.log, TASKS_GROUP, &task).await, None);
    world.log.commit_task(commit(&task, epoch, vec![effects(&task, epoch, &out, 0, &["right"])], 2)).await.unwrap();
    assert_values(&world.log, &out, &["right"]).await;
    assert_eq!(committed(&*world.log, TASKS_GROUP, &task).await, Some(progress(&task, 2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_is_fenced_wherever_it_is() {
    let Some(world) = World::new() else { return };
    let (task, out) = (task(&world).await, world.topic(1).await);
    let old = world.log.begin_task(&task).await.unwrap();
    world.log.commit_task(commit(&task, old, vec![effects(&task, old, &out, 0, &["old 0"])], 1)).await.unwrap();

    // Another process takes over.
    let other = world.another();
    let new = other.begin_task(&task).await.unwrap();
    assert_eq!((old, new), (1, 2));
    let late = world.log.commit_task(commit(&task, old, vec![effects(&task, old, &out, 1, &["old 1"])], 2)).await;
    assert!(matches!(&late, Err(LogError::Fenced { task: t, epoch: 1, .. }) if **t == *task), "{late:?}");
    let again = world.log.commit_task(commit(&task, old, vec![], 2)).await;
    assert!(matches!(again, Err(LogError::Fenced { .. })), "for good: {again:?}");
    let offsets = [progress(&task, 77)];
    let hold = world.log.commit_offsets("__highwater.snapshots", &offsets, Some((&task, old))).await;
    assert!(matches!(hold, Err(LogError::Fenced { .. })), "{hold:?}");

    other.commit_task(commit(&task, new, vec![effects(&task, new, &out, 1, &["new 1"])], 2)).await.unwrap();
    assert_values(&other, &out, &["old 0", "new 1"]).await;
    assert_eq!(committed(&*other, TASKS_GROUP, &task).await, Some(progress(&task, 2)));

    // The same process may begin again, and then the other one is the zombie.
    let third = world.log.begin_task(&task).await.unwrap();
    assert_eq!(third, 3);
    let late = other.commit_task(commit(&task, new, vec![], 9)).await;
    assert!(matches!(late, Err(LogError::Fenced { .. })), "{late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn within_one_process_too_a_later_run_ends_the_earlier() {
    let Some(world) = World::new() else { return };
    let (task, out) = (task(&world).await, world.topic(1).await);
    let unknown = world.log.commit_task(commit(&task, 1, vec![], 1)).await;
    assert!(matches!(unknown, Err(LogError::Fenced { current: 0, .. })), "never begun: {unknown:?}");
    let first = world.log.begin_task(&task).await.unwrap();
    world.log.commit_task(commit(&task, first, vec![], 1)).await.unwrap();
    let second = world.log.begin_task(&task).await.unwrap();
    assert_eq!((first, second), (1, 2));
    let late = world.log.commit_task(commit(&task, first, vec![effects(&task, first, &out, 1, &["late"])], 2)).await;
    assert!(matches!(late, Err(LogError::Fenced { epoch: 1, current: 2, .. })), "{late:?}");
    assert_values::<&str>(&world.log, &out, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_begins_sees_all_that_the_one_before_committed() {
    let Some(world) = World::new() else { return };
    let (task, out) = (task(&world).await, world.topic(1).await);
    let other = world.another();
    let (mut expected, mut position) = (Vec::new(), 0);
    // Two processes take the task from each other, each going on from where the committed offset says.
    for round in 0..6 {
        let log = if round % 2 == 0 { &world.log } else { &other };
        let epoch = log.begin_task(&task).await.unwrap();
        assert_eq!(epoch, round + 1);
        let from = committed(&**log, TASKS_GROUP, &task).await.map_or(0, |c| c.offset);
        assert_eq!(from, position);
        for _ in 0..3 {
            let value = format!("{round} {position}");
            log.commit_task(commit(&task, epoch, vec![effects(&task, epoch, &out, position, &[&value])], position + 1))
                .await
                .unwrap();
            expected.push(value);
            position += 1;
        }
    }
    assert_values(&world.log, &out, &expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_must_be_what_they_say() {
    let Some(world) = World::new() else { return };
    let (task, out) = (task(&world).await, world.topic(1).await);
    let epoch = world.log.begin_task(&task).await.unwrap();
    let other: Arc<str> = "logs/9".into();
    let marks = vec![EffectMark { position: 0, index: 0 }];
    let guard = Guard::Effects { task: task.clone(), epoch, marks };
    for wrong in [
        append(&out, 0, &["x"], Guard::None),
        effects(&other, epoch, &out, 0, &["x"]),
        effects(&task, epoch + 1, &out, 0, &["x"]),
        append(&out, 0, &["x", "y"], guard),
    ] {
        let error = world.log.commit_task(commit(&task, epoch, vec![wrong], 1)).await.unwrap_err();
        assert!(!error.is_retryable(), "{error}");
    }
    assert!(world.log.begin_task("nameless").await.is_err());
    assert_eq!(read_to_end(&world.log, &out, 0, 0).await, (vec![], 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_of_groups_without_members() {
    let Some(world) = World::new() else { return };
    let topic = world.topic(3).await;
    let at = |partition, offset, metadata: &str| CommittedOffset {
        topic: topic.clone(),
        partition,
        offset,
        metadata: metadata.to_owned(),
    };
    let group = "__highwater.alerts";
    assert_eq!(world.log.committed(group).await.unwrap(), []);
    let offsets = [at(2, 7, "why not"), at(0, 3, "")];
    world.log.commit_offsets(group, &offsets, None).await.unwrap();
    world.log.commit_offsets(group, &[at(0, 4, "")], None).await.unwrap();
    let expected = [at(0, 4, ""), at(2, 7, "why not")];
    assert_eq!(world.another().committed(group).await.unwrap(), expected);
    // Named after the configured group, so that two installations do not meet.
    let name = format!("{}.alerts", world.config.group);
    assert_eq!(world.log.committed(&name).await.unwrap(), expected);
    let unknown = CommittedOffset { topic: "no-such-topic".into(), ..at(0, 1, "") };
    let error = world.log.commit_offsets(group, &[unknown], None).await.unwrap_err();
    assert!(matches!(error, LogError::UnknownTopicOrPartition { .. }), "{error:?}");
}
