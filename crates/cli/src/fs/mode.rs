//! Modes as people write them: octal, or what changes.

/// A change of the 12 bits of a mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ModeChange {
    Octal(u32),
    Symbolic(Vec<Clause>),
}

/// `ug+rwX` and the like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clause {
    who: Vec<Who>,
    operator: Operator,
    permissions: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    User,
    Group,
    Others,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

const STICKY: u32 = 0o1000;

impl ModeChange {
    pub(crate) fn parse(text: &str) -> Result<ModeChange, String> {
        let wrong = || format!("{text:?} is neither octal (640) nor a list of changes (u+rwx,go-w,a+X,+t)");
        if !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte)) {
            let mode = u32::from_str_radix(text, 8).map_err(|_| wrong())?;
            return if mode <= 0o7777 { Ok(ModeChange::Octal(mode)) } else { Err(wrong()) };
        }
        let mut clauses = Vec::new();
        for part in text.split(',') {
            read_clauses(part, &mut clauses).ok_or_else(wrong)?;
        }
        Ok(ModeChange::Symbolic(clauses))
    }

    /// The mode after the change.
    pub(crate) fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            ModeChange::Octal(mode) => *mode,
            ModeChange::Symbolic(clauses) => {
                clauses.iter().fold(mode, |mode, clause| clause.apply(mode, is_directory))
            }
        }
    }
}

/// Reads `WHO OPERATOR PERMISSIONS`, then more operators with permissions for the same.
fn read_clauses(part: &str, clauses: &mut Vec<Clause>) -> Option<()> {
    let operators = ['+', '-', '='];
    let (who, mut rest) = part.split_at(part.find(operators)?);
    let who = read_who(who)?;
    while let Some(operator) = rest.chars().next() {
        let end = rest[1..].find(operators).map_or(rest.len(), |at| at + 1);
        let permissions = &rest[1..end];
        let copies = matches!(permissions, "u" | "g" | "o");
        if !copies && !permissions.chars().all(|each| "rwxXst".contains(each)) {
            return None;
        }
        let operator = match operator {
            '+' => Operator::Add,
            '-' => Operator::Remove,
            _ => Operator::Set,
        };
        clauses.push(Clause { who: who.clone(), operator, permissions: permissions.to_owned() });
        rest = &rest[end..];
    }
    Some(())
}

/// Nobody named is everybody.
fn read_who(text: &str) -> Option<Vec<Who>> {
    let everybody = [Who::User, Who::Group, Who::Others];
    if text.is_empty() {
        return Some(everybody.to_vec());
    }
    let mut who = Vec::new();
    for letter in text.chars() {
        match letter {
            'u' => who.push(Who::User),
            'g' => who.push(Who::Group),
            'o' => who.push(Who::Others),
            'a' => who.extend(everybody),
            _ => return None,
        }
    }
    Some(who)
}

impl Who {
    /// Where the three bits are.
    fn shift(self) -> u32 {
        match self {
            Who::User => 6,
            Who::Group => 3,
            Who::Others => 0,
        }
    }

    /// The bit that runs a program as its owner or group.
    fn set_id(self) -> u32 {
        match self {
            Who::User => 0o4000,
            Who::Group => 0o2000,
            Who::Others => 0,
        }
    }
}

impl Clause {
    fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let (mut wanted, mut mine) = (0, 0);
        for who in &self.who {
            wanted |= self.bits(*who, mode, is_directory);
            mine |= 0o7 << who.shift() | who.set_id();
        }
        // The sticky bit is nobody's: it is changed only when it is named, and set with everybody's.
        if self.permissions.contains('t') {
            wanted |= STICKY;
        }
        if self.permissions.contains('t') || self.who.len() >= 3 {
            mine |= STICKY;
        }
        match self.operator {
            Operator::Add => mode | wanted,
            Operator::Remove => mode & !wanted,
            Operator::Set => mode & !mine | wanted,
        }
    }

    fn bits(&self, who: Who, mode: u32, is_directory: bool) -> u32 {
        let copied = match self.permissions.as_str() {
            "u" => Some(mode >> 6 & 0o7),
            "g" => Some(mode >> 3 & 0o7),
            "o" => Some(mode & 0o7),
            _ => None,
        };
        if let Some(bits) = copied {
            return bits << who.shift();
        }
        let of = |letter: char| match letter {
            'r' => 0o4 << who.shift(),
            'w' => 0o2 << who.shift(),
            'x' => 0o1 << who.shift(),
            // Execution where it makes sense already.
            'X' if is_directory || mode & 0o111 != 0 => 0o1 << who.shift(),
            's' => who.set_id(),
            _ => 0,
        };
        self.permissions.chars().fold(0, |bits, letter| bits | of(letter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn changed(change: &str, mode: u32, is_directory: bool) -> u32 {
        ModeChange::parse(change).unwrap().apply(mode, is_directory)
    }

    #[test]
    fn octal_modes_are_taken_as_they_are() {
        assert_eq!(changed("640", 0o777, false), 0o640);
        assert_eq!(changed("01777", 0o644, true), 0o1777);
        assert_eq!(changed("0", 0o644, false), 0);
    }

    #[test]
    fn letters_change_what_they_name() {
        for (change, before, after) in [
            ("u+x", 0o644, 0o744),
            ("go-rwx", 0o755, 0o700),
            ("a=r", 0o1755, 0o444),
            ("+w", 0o444, 0o666),
            ("u=rwx,g=rx,o=", 0o007, 0o750),
            ("g=u", 0o740, 0o770),
            ("o+g", 0o750, 0o755),
            ("u+s,g+s", 0o755, 0o6755),
            ("+t", 0o777, 0o1777),
            ("o-t", 0o1777, 0o777),
            ("u+r-w+x", 0o200, 0o500),
            ("u=", 0o4755, 0o055),
        ] {
            assert_eq!(changed(change, before, false), after, "{change}");
        }
    }

    #[test]
    fn a_large_x_is_for_directories_and_programs() {
        assert_eq!(changed("a+X", 0o644, false), 0o644);
        assert_eq!(changed("a+X", 0o644, true), 0o755);
        assert_eq!(changed("go+X", 0o744, false), 0o755);
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        for wrong in ["", "8", "777777", "17777", "rwx", "z+r", "u+z", "u", "u+r,", "u~r", "u+ug", "+é"] {
            assert!(ModeChange::parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_or_leave_the_twelve_bits(text in "[ugoa]{0,4}[-+=][rwxXstugo]{0,4}|.{0,9}", mode in 0..0o10000_u32) {
            if let Ok(change) = ModeChange::parse(&text) {
                prop_assert!(change.apply(mode, true) <= 0o7777);
            }
        }
    }
}
