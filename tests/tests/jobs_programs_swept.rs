//! Programs in dfs:// go when no job uses them any more, and none goes that one uses.

use std::fs;

use gristmill_tests::{Cluster, ClusterOptions, file_uri, patiently};

#[test]
fn a_program_goes_when_no_job_uses_it_and_comes_again_with_the_next() {
    let master_args = vec!["--program-keep-minutes=0"];
    let cluster = Cluster::with(ClusterOptions { workers: 1, slots: 3, master_args, ..Default::default() });
    cluster.wait_for_all_slots();
    cluster.put("/text", b"to be or not to be");
    let programs = || cluster.names_in("/.gristmill/programs").len();
    let gate = file_uri(&cluster.path("gate"));
    let running =
        cluster.submit("gated", &["--rows", "9", "--stuck", "--gate", &gate, "--output", "dfs:///g"]);
    running.until("it to run", |status| status["stages"][0]["running"].as_u64() >= Some(1));
    let used = cluster.names_in("/.gristmill/programs");
    assert_eq!(used.len(), 1, "{used:?}");
    for round in 0..2 {
        // The program went after the first round: it is brought again, and goes again. That it does shows that somebody
        // swept while the other job ran.
        let output = format!("dfs:///out-{round}");
        let job = cluster.submit("spread", &["--rows", "10", "--output", &output]);
        job.done();
        patiently("its program to go", || programs() == 1);
        assert_eq!(cluster.names_in("/.gristmill/programs"), used, "what a job uses stays");
    }
    fs::write(cluster.path("gate"), "").expect("a gate");
    running.done();
    patiently("the last program to go", || programs() == 0);
}

#[test]
fn programs_are_kept_for_the_next_job_where_nobody_says_otherwise() {
    let cluster = Cluster::with(ClusterOptions { workers: 1, ..Default::default() });
    cluster.wait_for_all_slots();
    let gate = cluster.path("gate");
    fs::write(&gate, "").expect("a gate");
    let args = ["--rows", "9", "--gate", &file_uri(&gate), "--output", "dfs:///g"];
    cluster.submit("gated", &args).done();
    let kept = cluster.names_in("/.gristmill/programs");
    assert_eq!(kept.len(), 1);
}
