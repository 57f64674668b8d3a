//! What each call does to the map.

use super::*;

impl Model {
    pub(super) fn make_directory(
        &mut self,
        who: &Caller,
        path: &str,
        parents: bool,
        mode: u32,
    ) -> Result<(), Kind> {
        self.walk(who, path)?;
        match self.nodes.get(path) {
            Some(node) if node.file.is_none() && parents => return Ok(()),
            Some(_) => return Err(Kind::AlreadyExists),
            None => {}
        }
        self.make_parents(who, path, parents, mode)?;
        let group = self.nodes[&parent(path)].group.clone();
        self.insert(path, &who.user, &group, mode, None);
        Ok(())
    }

    pub(super) fn create(
        &mut self,
        who: &Caller,
        path: &str,
        overwrite: bool,
        parents: bool,
        mode: u32,
    ) -> Result<(), Kind> {
        self.walk(who, path)?;
        if let Some(node) = self.nodes.get(path) {
            let file = node.file.as_ref().ok_or(Kind::IsADirectory)?;
            if !overwrite {
                return Err(Kind::AlreadyExists);
            }
            self.require(who, path, WRITE)?;
            if file.writer.is_some_and(|writer| writer != who.client) {
                return Err(Kind::LeaseHeld);
            }
            self.check_removal(who, path)?;
            self.remove(path);
        }
        let group = self.make_parents(who, path, parents, mode | 0o300 | (mode & 0o444) >> 2)?;
        let file =
            File { blocks: vec![], last_open: false, writer: Some(who.client), replication: 2, version: 1 };
        self.insert(path, &who.user, &group, mode, Some(file));
        Ok(())
    }

    /// A file that is closed and may be written.
    pub(super) fn reopen(&mut self, who: &Caller, path: &str) -> Result<&mut File, Kind> {
        self.existing(who, path)?.file.as_ref().ok_or(Kind::IsADirectory)?;
        self.require(who, path, WRITE)?;
        let file = self.file(path)?;
        if file.writer.is_some() { Err(Kind::LeaseHeld) } else { Ok(file) }
    }

    pub(super) fn append(&mut self, who: &Caller, path: &str) -> Result<(), Kind> {
        let file = self.reopen(who, path)?;
        file.writer = Some(who.client);
        file.last_open = file.blocks.last().is_some_and(|&bytes| bytes < BLOCK);
        Ok(())
    }

    pub(super) fn complete(&mut self, who: &Caller, path: &str) -> Result<(), Kind> {
        let file = self.file(path)?;
        if file.writer != Some(who.client) {
            return Err(Kind::LeaseLost);
        }
        if file.last_open && file.blocks.last() == Some(&0) {
            file.blocks.pop();
        }
        (file.last_open, file.writer) = (false, None);
        file.version += 1;
        self.touch(path);
        Ok(())
    }

    pub(super) fn truncate(&mut self, who: &Caller, path: &str, bytes: u64) -> Result<(), Kind> {
        let file = self.reopen(who, path)?;
        let length: u64 = file.blocks.iter().sum();
        if bytes >= length {
            return if bytes > length { Err(Kind::InvalidArgument) } else { Ok(()) };
        }
        let mut left = bytes;
        let mut cut = false;
        file.blocks.retain_mut(|block| {
            cut |= left > 0 && left < *block;
            *block = left.min(*block);
            left -= *block;
            *block > 0
        });
        // A cut inside a block is finished by a second command.
        file.version += 1 + u64::from(cut);
        self.nodes.get_mut(path).unwrap().modified_ms = self.now_ms + if cut { 1000 } else { 0 };
        Ok(())
    }

    pub(super) fn rename(
        &mut self,
        who: &Caller,
        from: &str,
        to: &str,
        mode: Mode,
        right: bool,
    ) -> Result<(), Kind> {
        self.check_removal(who, from)?;
        self.walk(who, to)?;
        let mut to = to.to_owned();
        if mode == Mode::Into && self.nodes.get(&to).is_some_and(|node| node.file.is_none()) {
            to = format!("{}/{}", to.trim_end_matches('/'), from.rsplit('/').next().unwrap());
            self.walk(who, &to)?;
        }
        if to == from || to == "/" {
            return Err(Kind::AlreadyExists);
        }
        if below(&to, from) {
            return Err(Kind::RenameIntoItself);
        }
        self.require(who, &parent(&to), WRITE | EXECUTE)?;
        if mode == Mode::IfSame && !right {
            return Err(Kind::Precondition);
        }
        if let Some(target) = self.nodes.get(&to) {
            if mode == Mode::Refuse || mode == Mode::Into {
                return Err(Kind::AlreadyExists);
            }
            match (self.nodes[from].file.is_none(), target.file.is_none()) {
                (true, false) => return Err(Kind::NotADirectory),
                (false, true) => return Err(Kind::IsADirectory),
                (true, true) if !self.children(&to).is_empty() => return Err(Kind::NotEmpty),
                _ => {}
            }
            self.check_removal(who, &to)?;
            self.remove(&to);
        }
        self.move_to(from, &to);
        Ok(())
    }

    pub(super) fn delete(
        &mut self,
        who: &Caller,
        path: &str,
        how: (bool, bool),
        trash_path: &str,
    ) -> Result<(), Kind> {
        let (recursive, skip_trash) = how;
        self.walk(who, path)?;
        if !self.nodes.contains_key(path) {
            return Ok(());
        }
        if !self.children(path).is_empty() && !recursive && path != "/" {
            return Err(Kind::NotEmpty);
        }
        self.check_removal(who, path)?;
        if skip_trash || below(path, "/.trash") {
            return self.remove_for_good(who, path);
        }
        let (owner, group) = (self.nodes["/"].owner.clone(), self.nodes["/"].group.clone());
        if self.nodes.get("/.trash").is_some_and(|node| node.file.is_some() || node.owner != owner) {
            return Err(Kind::AlreadyExists);
        }
        if trash_path.is_empty() {
            // It was refused, which will be found to be wrong.
            return Ok(());
        }
        assert!(!self.nodes.contains_key(trash_path));
        let home = above(trash_path)[2].clone();
        assert!(home.contains(&format!("/{}", who.user)), "{home}");
        assert!(self.nodes.get(&home).is_none_or(|node| node.owner == who.user), "{home}");
        for directory in &above(trash_path)[1..] {
            if !self.nodes.contains_key(directory) {
                let top = parent(directory) == "/";
                let (owner, mode) = if top { (&owner, 0o755) } else { (&who.user, 0o700) };
                self.insert(directory, owner, &group, mode, None);
            }
        }
        self.move_to(path, trash_path);
        Ok(())
    }

    pub(super) fn remove_for_good(&mut self, who: &Caller, path: &str) -> Result<(), Kind> {
        self.check_removal(who, path)?;
        for inner in self.subtree(path) {
            if self.nodes[&inner].file.is_none() && !self.children(&inner).is_empty() {
                self.require(who, &inner, READ | WRITE | EXECUTE)?;
            }
            if inner != path {
                self.require_unstuck(who, &inner)?;
            }
        }
        self.remove(path);
        Ok(())
    }

    pub(super) fn publish(
        &mut self,
        who: &Caller,
        remove: &[String],
        moves: &[(String, String)],
    ) -> Result<(), Kind> {
        for path in remove {
            self.walk(who, path)?;
            if self.nodes.contains_key(path) {
                self.remove_for_good(who, path)?;
            }
        }
        for (from, to) in moves {
            self.check_removal(who, from)?;
            self.walk(who, to)?;
            if to == from || to == "/" {
                return Err(Kind::AlreadyExists);
            }
            if below(to, from) {
                return Err(Kind::RenameIntoItself);
            }
            if self.nodes.contains_key(to) {
                return Err(Kind::AlreadyExists);
            }
            self.make_parents(who, to, true, 0o755)?;
            self.move_to(from, to);
        }
        Ok(())
    }

    pub(super) fn closed(&self, who: &Caller, path: &str) -> Result<File, Kind> {
        let file = self.existing(who, path)?.file.clone().ok_or(Kind::IsADirectory)?;
        if file.writer.is_some() { Err(Kind::UnderConstruction) } else { Ok(file) }
    }

    pub(super) fn concat(&mut self, who: &Caller, to: &str, from: &[String]) -> Result<(), Kind> {
        self.closed(who, to)?;
        self.require(who, to, WRITE)?;
        for path in from {
            let source = self.closed(who, path)?;
            self.require(who, path, READ)?;
            self.check_removal(who, path)?;
            if path == to {
                return Err(Kind::InvalidArgument);
            }
            self.remove(path);
            self.file(to)?.blocks.extend(source.blocks);
        }
        self.file(to)?.version += 1;
        self.touch(to);
        Ok(())
    }

    pub(super) fn set(&mut self, who: &Caller, call: &Call) -> Result<(), Kind> {
        let superuser = self.superuser(who);
        match call {
            Call::SetReplication(path, replication) => {
                self.existing(who, path)?.file.as_ref().ok_or(Kind::IsADirectory)?;
                self.require(who, path, WRITE)?;
                self.file(path)?.replication = *replication;
            }
            Call::SetMode(path, mode) => {
                let node = self.existing(who, path)?;
                if !superuser && node.owner != who.user {
                    return Err(Kind::PermissionDenied);
                }
                let kept = if node.file.is_some() { 0o777 } else { 0o1777 };
                self.nodes.get_mut(path).unwrap().mode = mode & kept;
            }
            Call::SetOwner(path, owner, group) => {
                let node = self.existing(who, path)?;
                let member = group.is_empty() || *group == node.group || who.groups.contains(group);
                if !superuser && (*owner != node.owner || node.owner != who.user || !member) {
                    return Err(Kind::PermissionDenied);
                }
                let node = self.nodes.get_mut(path).unwrap();
                owner.clone_into(&mut node.owner);
                if !group.is_empty() {
                    group.clone_into(&mut node.group);
                }
            }
            Call::SetQuota(path, names, space) => {
                let node = self.existing(who, path)?;
                if !superuser {
                    return Err(Kind::PermissionDenied);
                }
                if node.file.is_some() {
                    return Err(Kind::NotADirectory);
                }
                let (names_before, space_before) = node.quota.unwrap_or_default();
                let quota = (names.unwrap_or(names_before), space.unwrap_or(space_before));
                self.nodes.get_mut(path).unwrap().quota = (quota != (0, 0)).then_some(quota);
            }
            _ => unreachable!("it sets nothing"),
        }
        Ok(())
    }
}
