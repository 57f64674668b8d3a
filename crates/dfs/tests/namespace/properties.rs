//! Random calls, against a model that is too simple to be wrong.

use crate::model::{Call, Model};
use crate::story::*;
use gristmill_dfs::namenode::namespace::{Action, Applied, Caller, Effect};
use gristmill_proto::ids::InodeId;
use gristmill_proto::namespace::answer::Outcome;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::failure::Kind;
use gristmill_proto::namespace::rename::Mode;
use gristmill_proto::namespace::{
    AddBlock, BlockEnd, Complete, Concat, Create, Entry, MakeDirectory, Publish, Rename, SetMode, SetOwner,
    SetQuota, SetReplication, Stat, publish::Move,
};
use proptest::prelude::*;

fn path() -> impl Strategy<Value = String> {
    prop_oneof![1 => Just("/".to_owned()), 30 => inner_path(), 1 => "/\\.trash(/(root|a))?"]
}

/// What has a quota does not become the trash, the directories of which the model does not count.
fn target() -> impl Strategy<Value = String> {
    prop_oneof![1 => Just("/".to_owned()), 30 => inner_path()]
}

/// Few names, so that calls meet.
fn inner_path() -> impl Strategy<Value = String> {
    "(/[ab]){1,3}"
}

fn call() -> impl Strategy<Value = Call> {
    let mode = || prop_oneof![3 => Just(0o755), 2 => Just(0o777), 1 => Just(0o1777), 1 => 0..0o2000u32];
    let file_mode = prop_oneof![2 => Just(0o644), 2 => Just(0o666), 1 => Just(0o222)];
    let rename_mode =
        prop_oneof![Just(Mode::Refuse), Just(Mode::Overwrite), Just(Mode::IfSame), Just(Mode::Into)];
    let lengths = proptest::collection::vec(1..=BLOCK, 0..3);
    let who = prop_oneof![Just("root".to_owned()), Just("ada".to_owned()), Just("bob".to_owned())];
    let group = prop_oneof![Just(String::new()), Just("staff".to_owned()), Just("dev".to_owned())];
    let some = |bound| proptest::option::of(0..=bound);
    let several = |paths| proptest::collection::vec(paths, 0..3);
    let yes = any::<bool>;
    prop_oneof![
        3 => (path(), yes(), mode()).prop_map(|(path, parents, mode)| Call::MakeDirectory(path, parents, mode)),
        5 => (path(), yes(), yes(), file_mode)
            .prop_map(|(path, overwrite, parents, mode)| Call::Create { path, overwrite, parents, mode }),
        8 => (path(), lengths).prop_map(|(path, lengths)| Call::Write(path, lengths)),
        2 => path().prop_map(Call::Append),
        3 => path().prop_map(Call::Complete),
        2 => (path(), 0..3 * BLOCK).prop_map(|(path, bytes)| Call::Truncate(path, bytes)),
        6 => (path(), target(), rename_mode, yes())
            .prop_map(|(from, to, mode, right)| Call::Rename(from, to, mode, right)),
        4 => (path(), yes(), yes())
            .prop_map(|(path, recursive, skip_trash)| Call::Delete { path, recursive, skip_trash }),
        2 => (several(path().boxed()), proptest::collection::vec((path(), target()), 0..3))
            .prop_map(|(remove, moves)| Call::Publish(remove, moves)),
        2 => (path(), proptest::collection::vec(path(), 1..3)).prop_map(|(to, from)| Call::Concat(to, from)),
        1 => (path(), 1..4u32).prop_map(|(path, replication)| Call::SetReplication(path, replication)),
        2 => (path(), mode()).prop_map(|(path, mode)| Call::SetMode(path, mode)),
        // The root stays root's: it looks at everything after each step. And it has no quota: how many
        // directories of trash are made is the namespace's business.
        3 => (inner_path(), who, group).prop_map(|(path, owner, group)| Call::SetOwner(path, owner, group)),
        4 => (inner_path(), some(5), some(6 * BLOCK))
            .prop_map(|(path, names, space)| Call::SetQuota(path, names, space)),
    ]
}

fn caller_of_many() -> impl Strategy<Value = Caller> {
    prop_oneof![3 => Just(root()), 1 => Just(ada()), 1 => Just(bob())]
}

/// The same call to the namespace and to the model; both must say the same.
fn play(story: &Story, model: &mut Model, who: &Caller, call: &Call) -> Result<(), String> {
    if let Call::Write(path, lengths) = call {
        return play_write(story, model, who, path, lengths);
    }
    model.now_ms = story.now_ms.get();
    let applied = story.apply(who, request(story, who, call));
    let trash_path = match &applied.outcome {
        Outcome::Deleted(deleted) => deleted.trash_path.clone(),
        _ => String::new(),
    };
    finish_cut(story, &applied);
    let expected = model.apply(who, call, &trash_path);
    let quotas = [Err(Kind::QuotaNames), Err(Kind::QuotaSpace)];
    if matches!(call, Call::Publish(..)) && quotas.contains(&expected) {
        // Which of several quotas is named first is nobody's business.
        let found = kind(&applied.outcome).map_or(Ok(()), Err);
        return if quotas.contains(&found) { Ok(()) } else { compare(&applied, expected) };
    }
    compare(&applied, expected)
}

fn compare(applied: &Applied, expected: Result<(), Kind>) -> Result<(), String> {
    let found = kind(&applied.outcome).map_or(Ok(()), Err);
    if found == expected {
        Ok(())
    } else {
        Err(format!("{expected:?} was expected, not {:?}", applied.outcome))
    }
}

/// A file in one go; it stays open where a quota stops it.
fn play_write(
    story: &Story,
    model: &mut Model,
    who: &Caller,
    path: &str,
    lengths: &[u64],
) -> Result<(), String> {
    let (overwrite, parents, mode) = (false, true, 0o644);
    let created = Call::Create { path: path.to_owned(), overwrite, parents, mode };
    play(story, model, who, &created)?;
    let Some(inode) = stat(story, path).filter(|entry| entry.under_construction && entry.blocks == 0) else {
        return Ok(());
    };
    let (inode, mut previous) = (inode.inode, None);
    for &bytes in lengths {
        let before = model.clone();
        let Ok(file) = model.file(path) else { return Ok(()) };
        if file.writer != Some(who.client) {
            return Ok(());
        }
        if let (Some(last), Some(BlockEnd { bytes, .. })) = (file.blocks.last_mut(), previous) {
            *last = bytes;
        }
        file.blocks.push(0);
        file.last_open = true;
        let expected = model.check_quotas(&before);
        let applied = story.apply(who, Request::AddBlock(AddBlock { inode, previous, exclude: vec![] }));
        compare(&applied, expected)?;
        let Outcome::Block(block) = applied.outcome else {
            *model = before;
            return Ok(());
        };
        previous = Some(end(&block, bytes));
    }
    model.now_ms = story.now_ms.get();
    let applied = story.apply(who, Request::Complete(Complete { inode, last: previous }));
    if let (Ok(file), Some(BlockEnd { bytes, .. })) = (model.file(path), previous) {
        file.blocks.pop();
        file.blocks.push(bytes);
    }
    compare(&applied, model.apply(who, &Call::Complete(path.to_owned()), ""))
}

fn stat(story: &Story, path: &str) -> Option<Entry> {
    match story.read(&root(), Request::Stat(Stat { path: path.to_owned() })) {
        Outcome::Entry(entry) => Some(entry),
        _ => None,
    }
}

/// Plays the workers that cut the last block.
fn finish_cut(story: &Story, applied: &Applied) {
    for effect in &applied.effects {
        if let &Effect::StopWriters { inode, block, generation, target_bytes: Some(bytes), .. } = effect {
            let finished = story.act(Action::FinishRecovery { inode, block, generation, bytes });
            assert_eq!(kind(&finished.outcome), None);
        }
    }
}

/// How an open file would be completed as it is.
fn completion(story: &Story, path: &str) -> Request {
    let Some(entry) = stat(story, path) else { return Request::Complete(Complete { inode: 0, last: None }) };
    let snapshot = story.namespace.snapshot().unwrap();
    let open = snapshot.under_construction(InodeId(entry.inode)).unwrap().and_then(|file| file.open_block);
    let last = open.map(|(block, generation)| {
        let bytes = snapshot.block(block).unwrap().unwrap().bytes;
        BlockEnd { block: block.0, generation: generation.0, bytes }
    });
    Request::Complete(Complete { inode: entry.inode, last })
}

fn request(story: &Story, _who: &Caller, call: &Call) -> Request {
    match call.clone() {
        Call::MakeDirectory(path, parents, mode) => {
            Request::MakeDirectory(MakeDirectory { path, parents, mode })
        }
        Call::Create { path, overwrite, parents, mode } => {
            Request::Create(Create { path, overwrite, parents, mode, ..Create::default() })
        }
        Call::Write(..) => unreachable!("it is played as its steps"),
        Call::Append(path) => append(&path),
        Call::Complete(path) => completion(story, &path),
        Call::Truncate(path, bytes) => truncate(&path, bytes),
        Call::Rename(from, to, mode, right) => {
            let there = stat(story, &to).map_or((0, 0), |entry| (entry.inode, entry.version));
            let (inode, version) = if right { there } else { (999_999, 1) };
            Request::Rename(Rename { from, to, mode: mode.into(), inode, version })
        }
        Call::Delete { path, recursive, skip_trash } => delete(&path, recursive, skip_trash),
        Call::Publish(remove, moves) => {
            let moves = moves.into_iter().map(|(from, to)| Move { from, to }).collect();
            Request::Publish(Publish { remove, moves })
        }
        Call::Concat(to, from) => Request::Concat(Concat { to, from }),
        Call::SetReplication(path, replication) => {
            Request::SetReplication(SetReplication { path, replication })
        }
        Call::SetMode(path, mode) => Request::SetMode(SetMode { path, mode }),
        Call::SetOwner(path, owner, group) => Request::SetOwner(SetOwner { path, owner, group }),
        Call::SetQuota(path, names, space_bytes) => Request::SetQuota(SetQuota { path, names, space_bytes }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]

    #[test]
    fn the_namespace_does_what_the_model_does(
        calls in proptest::collection::vec((caller_of_many(), call()), 1..120),
    ) {
        let story = Story::new();
        let mut model = Model::new();
        for (step, (caller, call)) in calls.iter().enumerate() {
            let played = play(&story, &mut model, caller, call);
            prop_assert_eq!(played, Ok(()), "step {}: {:?} by {}", step, call, caller.user);
            let mut tree = story.tree();
            tree.iter_mut().for_each(|entry| entry.inode = 0);
            prop_assert_eq!(tree, model.tree(), "step {}: {:?} by {}", step, call, caller.user);
        }
        story.reclaim();
        let totals = story.namespace.snapshot().unwrap().totals();
        prop_assert_eq!((totals.directories, totals.files, totals.blocks), model.totals());
    }
}
