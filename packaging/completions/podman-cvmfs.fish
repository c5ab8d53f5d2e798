# SPDX-License-Identifier: Apache-2.0
# Completion of podman-cvmfs for fish. The command itself answers, so the script is asked of it, too.
_PODMAN_CVMFS_COMPLETE=fish_source podman-cvmfs | source

function _podman_cvmfs
    # fish replaces --option=value as a whole.
    set -l option (string match --regex -- '^--[^=]+=' (commandline --current-token))
    for value in (_podman_cvmfs_completion)
        echo "$option$value"
    end
end
complete --command podman-cvmfs --erase
complete --command podman-cvmfs --no-files --arguments '(_podman_cvmfs)'
