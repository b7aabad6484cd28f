//! How full a file system is.

use std::fs;
use std::io;
use std::path::Path;

use contract::config::{Share, Size};
use nix::sys::statvfs::statvfs;

/// What Nix keeps for its database on a disk that is full, and gives up while it collects: `db/reserved`, made again by whoever opens
/// the store next (`gc-reserved-space`, 8 MiB by default).
const NIX_RESERVE: u64 = 8 << 20;

/// What there is and what is free of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes in all.
    pub bytes: u64,
    /// Free ones, without what is reserved for root: in a user namespace that is not for our root either.
    pub free_bytes: u64,
    /// Inodes in all; 0 where the file system has no such limit.
    pub inodes: u64,
    /// Free ones.
    pub free_inodes: u64,
}

impl Room {
    /// Of the file system that holds `path`.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn of(path: &Path) -> io::Result<Self> {
        let disk = statvfs(path)?;
        Ok(Self {
            bytes: disk.blocks().saturating_mul(disk.fragment_size()),
            free_bytes: disk.blocks_available().saturating_mul(disk.fragment_size()),
            inodes: disk.files(),
            free_inodes: disk.files_available(),
        })
    }

    /// Of the file system of a store, below whose `nix` folder it lies. What Nix will take back for its reserve is not free: else a
    /// collection that frees nothing would seem to have freed that.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn of_store(nix: &Path) -> io::Result<Self> {
        let room = Self::of(nix)?;
        let gone = fs::metadata(nix.join("var/nix/db/reserved"))
            .is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        Ok(Self { free_bytes: room.free_bytes.saturating_sub(if gone { NIX_RESERVE } else { 0 }), ..room })
    }

    /// Whether less than the share is free, and of what: in words for a person. A file system that is larger than what the store was
    /// given (`size`) is shared with others, and only a share of that size need be free.
    #[must_use]
    pub fn below(&self, share: Share, size: Size) -> Option<String> {
        let ours = self.bytes.min(size.bytes());
        if self.free_bytes < share.of_bytes(ours) {
            return Some(format!("{} of {} are free", bytes(self.free_bytes), bytes(self.bytes)));
        }
        let inodes = u128::from(self.inodes) * u128::from(ours) / u128::from(self.bytes.max(1));
        if self.free_inodes < share.of_inodes(u64::try_from(inodes).unwrap_or(u64::MAX)) {
            return Some(format!("{} of {} inodes are free", self.free_inodes, self.inodes));
        }
        None
    }
}

/// As people read it.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for a person")]
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    if mebibytes < 1024.0 { format!("{mebibytes:.1} MiB") } else { format!("{:.1} GiB", mebibytes / 1024.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nix_takes_back_is_not_free() {
        let nix = tempfile::tempdir().unwrap();
        let db = nix.path().join("var/nix/db");
        fs::create_dir_all(&db).unwrap();
        let differs = || {
            let (all, store) = (Room::of(nix.path()).unwrap(), Room::of_store(nix.path()).unwrap());
            all.free_bytes.saturating_sub(store.free_bytes)
        };
        // Others use the disk meanwhile.
        let near = |bytes: u64, wanted: u64| bytes.abs_diff(wanted) < NIX_RESERVE / 2;
        assert!(near(differs(), NIX_RESERVE));
        fs::write(db.join("reserved"), "").unwrap();
        assert!(near(differs(), 0));
    }

    #[test]
    fn bytes_and_inodes_count_alike() {
        let room = Room { bytes: 100 << 30, free_bytes: 10 << 30, inodes: 1000, free_inodes: 40 };
        let size = Size::gib(200);
        assert_eq!(room.below(Share::Percent(11), size).unwrap(), "10.0 GiB of 100.0 GiB are free");
        assert_eq!(room.below(Share::Percent(5), size).unwrap(), "40 of 1000 inodes are free");
        assert_eq!(room.below(Share::Percent(4), size), None);
        assert_eq!(
            room.below(Share::Size(Size::mib(1)), size),
            Some("40 of 1000 inodes are free".to_owned())
        );
        // Nobody counts inodes there.
        assert_eq!(Room { inodes: 0, free_inodes: 0, ..room }.below(Share::Percent(9), size), None);
        assert_eq!(Room { free_bytes: 0, ..room }.below(Share::Percent(0), size), None);
    }

    #[test]
    fn of_a_disk_that_others_use_as_well_a_share_of_the_store_is_enough() {
        let room = Room { bytes: 1000 << 30, free_bytes: 2 << 30, inodes: 1_000_000, free_inodes: 2000 };
        assert_eq!(room.below(Share::Percent(15), Size::gib(10)), None);
        assert!(room.below(Share::Percent(25), Size::gib(10)).is_some());
        assert!(room.below(Share::Percent(1), Size::gib(1000)).is_some());
    }

    #[test]
    fn what_is_there_can_be_asked_for() {
        assert!(Room::of(Path::new("/")).unwrap().bytes > 0);
        assert!(Room::of(Path::new("/no such folder")).is_err());
    }
}
