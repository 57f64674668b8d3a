//! The engine itself has a bad day: it is restarted in the middle of a job, has no addresses left, or no disk.
//!
//! Each story has an engine of its own, so that no other one's containers are hit.

use std::fs;
use std::io::{ErrorKind, Write};

use gristmill_tests::{
    Containers, Engine, Output, SmallDisk, corpus, docker, image, over_stages, patiently, word_counts,
};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn a_job_survives_the_restart_of_the_engine() {
    Engine::tells("restarted");
}

#[test]
fn an_engine_without_addresses_is_named_and_nothing_is_left() {
    Engine::tells("without_addresses");
}

#[test]
fn an_engine_whose_disk_is_full_is_named_and_nothing_is_left() {
    Engine::tells("without_disk");
}

/// Enough for a job of some seconds: a split is a task.
const TEXT_BYTES: usize = 2_000_000;

#[test]
#[ignore = "a_job_survives_the_restart_of_the_engine tells it"]
fn restarted() {
    let Some(mut engine) = Engine::start() else { return };
    let place = Containers::new("restarted engines").expect("the engine answers");
    let cluster = place.create(&["--core", "2", "--replication", "2"]);
    let (text, file) = (corpus(TEXT_BYTES, 12), place.path("text"));
    fs::write(&file, &text).expect("a file");
    cluster.gristmill().args(["fs", "put"]).arg(&file).arg("/text").run().succeeded();
    let expected: Vec<_> = word_counts(&text).into_iter().collect();

    // In good order it ends its containers first; without any they end when it comes back.
    for (signal, output) in [(Signal::TERM, "/ended"), (Signal::KILL, "/killed")] {
        let uri = format!("dfs://{output}");
        let args = ["--input", "dfs:///text", "--output", &uri, "--split-size", "32KiB", "--reducers", "3"];
        let job = cluster.submit("word_count", &args);
        let is_under_way = |status: &Value| (5..50).contains(&over_stages(status, "done"));
        job.until("the middle of the job", is_under_way);
        engine.stop(signal);
        let said = place.command(&["terminate", cluster.name()]).run().sentence();
        assert!(said.starts_with("cannot reach the Docker engine: start it, or say where it is"), "{said}");
        engine.start_again();
        patiently("all members to be back", || cluster.running() == 3);
        job.done();
        let copy = place.path(&output[1..]);
        cluster.gristmill().args(["fs", "get", output]).arg(&copy).run().succeeded();
        let written = Output::read(&copy);
        let counted = written.counts().into_iter().flatten().map(|(word, count)| (word.to_vec(), count));
        let mut counted: Vec<_> = counted.collect();
        counted.sort();
        assert!(counted == expected, "{signal:?}: not what is in the text");
    }
    cluster.terminate();
    place.nothing_is_left();
}

#[test]
#[ignore = "an_engine_without_addresses_is_named_and_nothing_is_left tells it"]
fn without_addresses() {
    let Some(_engine) = Engine::start() else { return };
    let place = Containers::new("engines without addresses").expect("the engine answers");
    image();
    for name in ["taken-1", "taken-2"] {
        docker(&["network", "create", name]);
    }
    let said = place.creation().run().sentence();
    assert!(said.starts_with("the Docker engine has no addresses left for one more network"), "{said}");
    place.nothing_is_left();

    docker(&["network", "rm", "taken-1"]);
    place.create(&["--core", "1"]).terminate();
    place.nothing_is_left();
}

#[test]
#[ignore = "an_engine_whose_disk_is_full_is_named_and_nothing_is_left tells it"]
fn without_disk() {
    fs::create_dir(Engine::data_dir()).expect("a directory");
    let _disk = match SmallDisk::of_mib(&Engine::data_dir(), 512) {
        Ok(disk) => disk,
        Err(why) => return eprintln!("left out, for no small disk can be mounted ({why})"),
    };
    let Some(_engine) = Engine::start() else { return };
    let place = Containers::new("engines with full disks").expect("the engine answers");
    image();
    let ballast = Engine::data_dir().join("ballast");
    let mut file = fs::File::create(&ballast).expect("a file");
    let filled = std::iter::repeat_with(|| file.write_all(&[1; 4096])).find_map(Result::err);
    assert_eq!(filled.map(|error| error.kind()), Some(ErrorKind::StorageFull));
    let said = place.creation().args(["--core", "1"]).run().sentence();
    assert!(said.starts_with("the disk of the Docker engine is full, while it was to "), "{said}");
    place.nothing_is_left();

    drop(file);
    fs::remove_file(&ballast).expect("room again");
    place.create(&["--core", "1"]).terminate();
    place.nothing_is_left();
}
