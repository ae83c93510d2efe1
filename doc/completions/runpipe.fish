complete -c runpipe -l bind -d 'Listen on this local address only [default: every address, of IPv4 and IPv6]' -r
complete -c runpipe -l connect-timeout -d 'How long each address of the remote host may take to answer, and how long a client waits for its name to resolve, or for a descriptor' -r
complete -c runpipe -l idle-timeout -d 'Reset connections on which no byte has moved either way for so long, but for those that wait for the limit of bandwidth [default: never]' -r
complete -c runpipe -l max-connections -d 'Forward at most so many connections at once. More clients wait in the kernel\'s backlog until one ends [default: as many as there are descriptors for]' -r
complete -c runpipe -l shape -d 'Forward at most so many KiB/s (1024 bytes per second) in each direction, all connections together, of which those that want more share it equally; 0 is no limit' -r
complete -c runpipe -l workers -d 'How many threads forward; the number of cores if not given' -r
complete -c runpipe -l interval -d 'Seconds between two refreshes; fractions are allowed' -r
complete -c runpipe -l count -d 'End after N refreshes, as Ctrl-C does' -r
complete -c runpipe -l format -d 'What a refresh is written as' -r -f -a "text\t'Lines for people, as they always were'
json\t'JSON Lines: a line with everything there is for each refresh'
csv\t'CSV: a record for each row of each refresh, and a header'"
complete -c runpipe -l units -d 'In what units text shows bytes, instead of plain numbers' -r -f -a "bin-bytes\t'B, KiB, MiB: steps of 1024'
bin-bits\t'bit, Kibit, Mibit: steps of 1024'
si-bytes\t'B, kB, MB: steps of 1000'
si-bits\t'bit, kbit, Mbit: steps of 1000'"
complete -c runpipe -l drain-timeout -d 'After Ctrl-C, wait at most so long for open connections, then reset them' -r
complete -c runpipe -l send-proxy -d 'Begin each connection to the remote host with a PROXY protocol header, version 2, which contains the client\'s address. The host must expect it'
complete -c runpipe -l log -d 'Write a line to standard error for each connection that ends'
complete -c runpipe -s h -l help -d 'Print help (see more with \'--help\')'
complete -c runpipe -s V -l version -d 'Print version'
