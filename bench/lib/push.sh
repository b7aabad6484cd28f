# shellcheck shell=bash disable=SC2154,SC2034
# Sourced by run: a checkout into the builder.

measure_push() {
  local n
  say 'push: making a repository'
  push_repository
  quietly ours_setup || fail 76 'the builder cannot be made'
  row push-archive ratio s 0.6 "Send a checkout ($push_size)" \
    "\`trampoline-cli push-tarball\`: hashed, checked, made current at once" "\`git archive HEAD | podman exec -i tar -x\`"
  row push-tar ratio s 0.6 'The same' \
    "\`trampoline-cli push-tarball\`" "\`tar -c . | podman exec -i tar -x\` of the files, without .git"
  row push-unchanged show s '' 'Send it again, unchanged' "\`trampoline-cli push-tarball\`" \
    "\`git archive HEAD | podman exec -i tar -x\` again"
  row push-changed show s '' 'Send it with another commit, of one file' "\`trampoline-cli push-tarball\`" \
    "\`git archive HEAD | podman exec -i tar -x\` again"
  row push-bytes most bytes 0 'Content that is sent of an unchanged checkout' "\`trampoline-cli push-tarball\`" ''
  for ((n = 1; n <= runs; n++)); do
    say "push: $n of $runs"
    sync
    # Another project each time: nothing of it is there.
    clock push ours push_ours "push-$n"
    clock push-unchanged ours push_ours "push-$n"
    sample push-bytes ours "$(push_bytes "push-$n")"
    echo "$n" >"$work/mixed/changed"
    git_in "$work/mixed" add .
    git_in "$work/mixed" commit --quiet --message=changed
    clock push-changed ours push_ours "push-$n"
    sync
    clock push-archive theirs push_archive "archive-$n"
    sync
    clock push-tar theirs push_tar "tar-$n"
  done
  copy_samples push ours push-archive
  copy_samples push ours push-tar
  copy_samples push-archive theirs push-unchanged
  copy_samples push-archive theirs push-changed
  rm -rf "$work/mixed"
}

# push_repository: a packed one, as a clone is; half of it compresses, half does not.
push_repository() {
  local n repository=$work/mixed folders=$((quick ? 4 : 40))
  for ((n = 1; n <= folders; n++)); do
    text_files "$repository/module-$n/src" 75 8000 "$n-a"
    text_files "$repository/module-$n/doc" 15 100000 "$n-b"
    random_files "$repository/module-$n/assets" 9 120000 c
    random_files "$repository/module-$n/assets" 1 1800000 d
  done
  push_size="$(du -s -m --apparent-size "$repository" | cut -f1) MB, $(find "$repository" -type f | wc -l) files"
  git_in "$repository" init --quiet
  git_in "$repository" add .
  git_in "$repository" commit --quiet --message=mixed
  git_in "$repository" repack -a -d -q --window=0
}

# push_sources: source code as people write it, which compresses better than any that is made up: that of the crates which the client
# is built from. Generated bindings of Windows aside, which are half of it.
push_sources() {
  local repository=$work/sources from=${CARGO_HOME:-$HOME/.cargo}/registry/src
  mkdir "$repository"
  (cd "$from" && find ./*/${quick:+s}* -type f -name '*.rs' -not -path '*/win*' -print0 | tar --null --files-from=- --create) |
    tar -C "$repository" --extract
  sources_size="$(du -s -m --apparent-size "$repository" | cut -f1) MB, $(find "$repository" -type f | wc -l) files"
  git_in "$repository" init --quiet
  git_in "$repository" add .
  git_in "$repository" commit --quiet --message=sources
  git_in "$repository" repack -a -d -q --window=0
}

# push_ours PROJECT
push_ours() {
  ours_in "$work/mixed" --json push-tarball --project "$1"
}

# push_bytes PROJECT: of the archive, unless the builder says that it has it.
push_bytes() {
  if push_ours "$1" 2>/dev/null | tr -d ' ' | grep -q '"unchanged":true'; then
    echo 0
  else
    git_in "$work/mixed" archive HEAD | wc -c
  fi
}

push_archive() {
  git_in "$work/mixed" archive HEAD | unpack_there "$1"
}

push_tar() {
  tar -C "$work/mixed" --exclude=./.git -c . | unpack_there "$1"
}

# unpack_there FOLDER
unpack_there() {
  podman exec -i "trampoline-$builder-user" /bin/sh -c "mkdir /home/nix/$1 && exec tar -x -C /home/nix/$1"
}
