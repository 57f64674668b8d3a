//! What a call is about, for errors and for knowing whether it changes anything.

use gristmill_proto::namespace::call::Request;

/// What a call does, as a verb, and to what.
pub(crate) fn subject(request: &Request) -> (&'static str, String) {
    use Request::*;
    let inode = |inode: u64| format!("inode-{inode}");
    match request {
        Stat(call) => ("stat", call.path.clone()),
        List(call) => ("list", call.path.clone()),
        Summarize(call) => ("summarize", call.path.clone()),
        Locate(call) => ("locate", call.path.clone()),
        Space(_) => ("measure", "/".to_owned()),
        Report(_) => ("report on", "the cluster".to_owned()),
        Check(call) => ("check", call.path.clone()),
        MakeDirectory(call) => ("make the directory", call.path.clone()),
        Create(call) => ("create", call.path.clone()),
        AddBlock(call) => ("add a block to", inode(call.inode)),
        RebuildBlock(call) => ("rebuild a block of", inode(call.inode)),
        AbandonBlock(call) => ("abandon a block of", inode(call.inode)),
        Sync(call) => ("sync", inode(call.inode)),
        Complete(call) => ("complete", inode(call.inode)),
        Append(call) => ("append to", call.path.clone()),
        Truncate(call) => ("truncate", call.path.clone()),
        Rename(call) => ("rename", call.from.clone()),
        Delete(call) => ("delete", call.path.clone()),
        Publish(call) => ("publish", call.moves.first().map(|first| first.to.clone()).unwrap_or_default()),
        Concat(call) => ("concatenate to", call.to.clone()),
        SetReplication(call) => ("set the replication of", call.path.clone()),
        SetMode(call) => ("set the mode of", call.path.clone()),
        SetOwner(call) => ("set the owner of", call.path.clone()),
        SetTimes(call) => ("set the times of", call.path.clone()),
        SetQuota(call) => ("set the quota of", call.path.clone()),
        RecoverLease(call) => ("recover the lease of", call.path.clone()),
        ExpungeTrash(_) => ("expunge", "the trash".to_owned()),
        RenewLeases(_) => ("renew", "the leases".to_owned()),
        ReportBad(call) => ("report as bad", format!("block-{}", call.block)),
        SetWorkerState(call) => ("set the state of", format!("worker-{}", call.worker)),
        SetSafeMode(_) => ("set", "the safe mode".to_owned()),
        Repair(call) => ("repair", call.path.clone()),
    }
}

/// Whether it may have changed something when no answer came.
pub(crate) fn is_change(request: &Request) -> bool {
    use Request::*;
    !matches!(
        request,
        Stat(_)
            | List(_)
            | Summarize(_)
            | Locate(_)
            | Space(_)
            | Report(_)
            | Check(_)
            | RenewLeases(_)
            | ReportBad(_)
    )
}
