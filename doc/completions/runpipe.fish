complete -c runpipe -l bind -d 'Listen on this local address only, instead of every one' -r
complete -c runpipe -l connect-timeout -d 'How long each address of the host may take to answer' -r
complete -c runpipe -l idle-timeout -d 'Reset connections on which no byte has moved for so long' -r
complete -c runpipe -l max-connections -d 'Forward at most N connections at once; more clients wait until one ends' -r
complete -c runpipe -l shape -d 'Forward at most so many KiB per second in each direction, all connections together' -r
complete -c runpipe -l workers -d 'How many threads forward; the number of cores if not given' -r
complete -c runpipe -l interval -d 'Seconds between two refreshes; fractions are allowed' -r
complete -c runpipe -l count -d 'End after N refreshes, as Ctrl-C does' -r
complete -c runpipe -l drain-timeout -d 'After Ctrl-C, wait at most so long for open connections, then reset them' -r
complete -c runpipe -l send-proxy -d 'Tell the remote host each client\'s address by a PROXY protocol header, version 2'
complete -c runpipe -l log -d 'Write a line to standard error for each connection that ends'
complete -c runpipe -s h -l help -d 'Print help (see more with \'--help\')'
complete -c runpipe -s V -l version -d 'Print version'
